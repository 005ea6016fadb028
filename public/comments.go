package public

import (
	"bytes"
	"regexp"
)

// inlineType is a JSDoc type within a line of code.
var inlineType = regexp.MustCompile(`/\*\* @[^*]*\*/ ?`)

// withoutComments returns a module or a style sheet without its comments and the
// indentation of its lines, which are half of its bytes. Lines keep their numbers, so
// that an error in a browser's console leads to the source. Comments of a licence, which
// begin with /*!, are kept.
//
// It is not a parser: a comment must begin its line, except a JSDoc type, and a template
// literal must end on its line. A test checks this for all files.
func withoutComments(code []byte) []byte {
	var out bytes.Buffer
	inComment := false
	for line := range bytes.Lines(code) {
		text := bytes.TrimSpace(line)
		if !inComment {
			text = inlineType.ReplaceAll(text, nil)
		}
		if !inComment && bytes.HasPrefix(text, []byte("/*")) && !bytes.HasPrefix(text, []byte("/*!")) {
			inComment = true
			text = text[len("/*"):]
		}
		if inComment {
			_, rest, ended := bytes.Cut(text, []byte("*/"))
			inComment, text = !ended, bytes.TrimSpace(rest)
		}
		if !bytes.HasPrefix(text, []byte("//")) {
			out.Write(text)
		}
		out.WriteByte('\n')
	}
	return out.Bytes()
}
