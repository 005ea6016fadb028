package setup

import (
	"bufio"
	"context"
	"errors"
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

// errInterrupted is returned if a signal ends the set-up before it has changed anything.
var errInterrupted = errors.New("interrupted; nothing was changed")

// scan reads a line. A signal does not end a read of the terminal, so the read continues in the
// background after ctx is done.
func (p prompt) scan(ctx context.Context) (found bool, err error) {
	scanned := make(chan bool, 1)
	go func() { scanned <- p.in.Scan() }()
	select {
	case found := <-scanned:
		return found, nil
	case <-ctx.Done():
		fmt.Fprintln(p.out)
		return false, errInterrupted
	}
}

// ask returns the answer to a question. An empty answer and the end of the input are the value in
// force. Without one, the question is asked again, or the end of the input is an error.
func (p prompt) ask(ctx context.Context, q question, inForce string) (string, error) {
	for {
		fmt.Fprint(p.out, q.text)
		if inForce != "" {
			fmt.Fprintf(p.out, " [%s]", inForce)
		}
		fmt.Fprint(p.out, ": ")
		found, err := p.scan(ctx)
		if err != nil {
			return "", err
		}
		if !found {
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
