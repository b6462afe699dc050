package xtables

// commentMatches always match: xt_comment.c.
var commentMatches = []module{
	{name: "comment", modelled: Yes, effect: inert, revisions: []revision{{size: commentSize, match: matchAlways, text: textComment}}},
}

const commentSize = 256

func matchAlways(*call) (bool, error) { return true, nil }

func textComment(w *writer, info []byte) {
	w.word("--comment")
	w.quoted(cstring(info[:commentSize]))
}
