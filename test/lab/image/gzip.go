package image

import (
	"bytes"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// gzipLayer is a layer whose two forms are both at hand. (static.NewLayer has one form only, and the tarball package's
// layers draw in a second gzip implementation.)
type gzipLayer struct {
	packed, plain  []byte
	digest, diffID v1.Hash
}

func newGzipLayer(packed, plain []byte) (*gzipLayer, error) {
	digest, _, err := v1.SHA256(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	diffID, _, err := v1.SHA256(bytes.NewReader(plain))
	if err != nil {
		return nil, err
	}
	return &gzipLayer{packed: packed, plain: plain, digest: digest, diffID: diffID}, nil
}

// Digest implements v1.Layer.
func (l *gzipLayer) Digest() (v1.Hash, error) { return l.digest, nil }

// DiffID implements v1.Layer.
func (l *gzipLayer) DiffID() (v1.Hash, error) { return l.diffID, nil }

// Compressed implements v1.Layer.
func (l *gzipLayer) Compressed() (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(l.packed)), nil
}

// Uncompressed implements v1.Layer.
func (l *gzipLayer) Uncompressed() (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(l.plain)), nil
}

// Size implements v1.Layer.
func (l *gzipLayer) Size() (int64, error) { return int64(len(l.packed)), nil }

// MediaType implements v1.Layer.
func (l *gzipLayer) MediaType() (types.MediaType, error) { return types.OCILayer, nil }
