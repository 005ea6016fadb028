package setup

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// question is asked for an option that is not given.
type question struct{ variable, option, text string }

var questions = []question{
	{"INBOX_DOMAIN", "-domain", "Host name of this server, such as signal.example.org"},
	{"INBOX_EMAIL", "-email", "E-mail address for the CA; giving it agrees to the terms of Let's Encrypt"},
}

// maxAnswerBytes bounds a line of the input.
const maxAnswerBytes = 4096

// prompt asks questions.
type prompt struct {
	in  *bufio.Scanner
	out io.Writer
}

func newPrompt(in io.Reader, out io.Writer) prompt {
	scanner := bufio.NewScanner(in)
	scanner.Buffer(nil, maxAnswerBytes)
	return prompt{scanner, out}
}

// ask returns the answer to a question. An empty answer and the end of the input are the value in
// force. Without one, the question is asked again, or the end of the input is an error.
func (p prompt) ask(q question, inForce string) (string, error) {
	for {
		fmt.Fprint(p.out, q.text)
		if inForce != "" {
			fmt.Fprintf(p.out, " [%s]", inForce)
		}
		fmt.Fprint(p.out, ": ")
		if !p.in.Scan() {
			fmt.Fprintln(p.out)
			if inForce != "" {
				return inForce, nil
			}
			return "", fmt.Errorf("%w: no answer: use the option %s", ErrUsage, q.option)
		}
		if answer := strings.TrimSpace(p.in.Text()); answer != "" {
			return answer, nil
		} else if inForce != "" {
			return inForce, nil
		}
	}
}
