//go:build linux

package xt

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlattr"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// Commands, attributes and errors of include/uapi/linux/netfilter/ipset/ip_set.h.
const (
	ipsetProtocol  = 7
	ipsetCmdProto  = 1
	ipsetCmdList   = 7
	ipsetCmdTest   = 11
	ipsetCmdHeader = 12

	ipsetAttrProtocol = 1
	ipsetAttrSetName  = 2
	ipsetAttrTypeName = 3
	ipsetAttrRevision = 4
	ipsetAttrFamily   = 5
	ipsetAttrFlags    = 6
	ipsetAttrData     = 7
	ipsetAttrADT      = 8

	// Inside ipsetAttrData.
	ipsetAttrPort      = 4
	ipsetAttrPortTo    = 5
	ipsetAttrTimeout   = 6
	ipsetAttrCADTFlags = 8
	ipsetAttrNetmask   = 20
	ipsetAttrName      = 18

	ipsetFlagListHeader   = 1 << 2
	ipsetFlagWithCounters = 1 << 3
	ipsetFlagWithSkbInfo  = 1 << 6

	ipsetErrExist = unix.Errno(4103) // IPSET_ERR_EXIST: the element is (not) in the set
	ipsetErrRange = unix.Errno(4352) // IPSET_ERR_BITMAP_RANGE: it cannot be in the bitmap
	ipsetErrElem  = unix.Errno(4353) // IPSET_ERR_HASH_ELEM: it cannot be in the hash (0.0.0.0)
)

const maxSetName = 32 // IPSET_MAXNAMELEN

// ipsetRequest starts a request with the protocol version that this kernel speaks.
func (r *Reader) ipsetRequest(ctx context.Context, family uint8) ([]byte, error) {
	if r.ipsetProtocol == 0 {
		version := uint8(0)
		body := nlattr.Append(nfgenmsg(unix.AF_INET), ipsetAttrProtocol, []byte{ipsetProtocol})
		err := r.do(ctx, unix.NFNL_SUBSYS_IPSET, ipsetCmdProto, body, func(attrs []byte) error {
			return nlattr.Each(attrs, func(typ uint16, data []byte) error {
				if typ == ipsetAttrProtocol && len(data) > 0 {
					version = min(data[0], ipsetProtocol)
				}
				return nil
			})
		})
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
			return nil, node.ErrNotSupported
		}
		if err != nil {
			return nil, err
		}
		if version < 6 {
			return nil, fmt.Errorf("ipset protocol %d: %w", version, node.ErrNotSupported)
		}
		r.ipsetProtocol = version
	}
	return nlattr.Append(nfgenmsg(family), ipsetAttrProtocol, []byte{r.ipsetProtocol}), nil
}

func setNameAttr(body []byte, name string) ([]byte, error) {
	if name == "" || len(name) >= maxSetName {
		return nil, node.ErrNotFound
	}
	return nlattr.Append(body, ipsetAttrSetName, append([]byte(name), 0)), nil
}

func ipsetError(what string, err error) error {
	if errors.Is(err, unix.ENOENT) {
		err = node.ErrNotFound
	}
	return readError(what, "CAP_NET_ADMIN", err)
}

// IPSetName returns the name of the set with a kernel index.
func (r *Reader) IPSetName(_ context.Context, index uint16) (string, error) {
	what := fmt.Sprintf("the name of ipset number %d", index)
	name, err := ipsetNameByIndex(index)
	if err != nil {
		return "", ipsetError(what, err)
	}
	if name == "" {
		return "", ipsetError(what, node.ErrNotFound)
	}
	r.Count.Add(len(name))
	return name, nil
}

// soIPSet and its operations: struct ip_set_req_version and struct ip_set_req_get_set. Unlike the netlink request this
// one is there on every kernel.
const (
	soIPSet        = 83
	ipsetOpByIndex = 7
	ipsetOpVersion = 0x100
)

func ipsetNameByIndex(index uint16) (string, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	version := make([]byte, 8)
	binary.NativeEndian.PutUint32(version, ipsetOpVersion)
	if _, err := getsockopt(fd, unix.SOL_IP, soIPSet, version); err != nil {
		return "", err
	}
	req := make([]byte, 8+maxSetName)
	binary.NativeEndian.PutUint32(req, ipsetOpByIndex)
	copy(req[4:8], version[4:8])
	binary.NativeEndian.PutUint16(req[8:], index)
	if _, err := getsockopt(fd, unix.SOL_IP, soIPSet, req); err != nil {
		return "", err
	}
	return text(req[8:]), nil
}

// text returns the bytes before the first NUL.
func text(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}

// IPSet reads a set's header.
func (r *Reader) IPSet(ctx context.Context, name string) (node.IPSet, error) {
	s := node.IPSet{}
	err := r.ipsetList(ctx, name, ipsetFlagListHeader, func(attrs []byte) error { return decodeIPSet(&s, attrs) })
	if err == nil && s.Name == "" {
		err = node.ErrNotFound
	}
	if err != nil {
		return node.IPSet{}, ipsetError("the ipset "+name, err)
	}
	return s, nil
}

// IPSetMembers lists the member sets of a list:set, in order.
func (r *Reader) IPSetMembers(ctx context.Context, name string) ([]string, error) {
	var out []string
	err := r.ipsetList(ctx, name, 0, func(attrs []byte) error {
		members, err := decodeIPSetMembers(attrs)
		out = append(out, members...)
		return err
	})
	if err != nil {
		return nil, ipsetError("the members of ipset "+name, err)
	}
	return out, nil
}

func (r *Reader) ipsetList(ctx context.Context, name string, flags uint32, f func(attrs []byte) error) error {
	body, err := r.ipsetRequest(ctx, unix.AF_INET)
	if err != nil {
		return err
	}
	if body, err = setNameAttr(body, name); err != nil {
		return err
	}
	if flags != 0 {
		body = nlattr.Append(body, ipsetAttrFlags, binary.BigEndian.AppendUint32(nil, flags))
	}
	return r.dump(ctx, unix.NFNL_SUBSYS_IPSET, ipsetCmdList, body, f)
}

// IPSetTest asks the kernel whether an entry is in a set (IPSET_CMD_TEST). data holds the entry's attributes.
func (r *Reader) IPSetTest(ctx context.Context, name string, family skb.Family, data []byte) (bool, error) {
	what := "the ipset " + name
	body, err := r.ipsetRequest(ctx, uint8(family))
	if err != nil {
		return false, ipsetError(what, err)
	}
	if body, err = setNameAttr(body, name); err != nil {
		return false, ipsetError(what, err)
	}
	body = nlattr.Append(body, ipsetAttrData|unix.NLA_F_NESTED, data)
	err = r.do(ctx, unix.NFNL_SUBSYS_IPSET, ipsetCmdTest, body, nil)
	if errors.Is(err, ipsetErrExist) || errors.Is(err, ipsetErrRange) || errors.Is(err, ipsetErrElem) {
		return false, nil
	}
	if err != nil {
		return false, ipsetError(what, err)
	}
	return true, nil
}
