package doctor

import (
	"context"
	"fmt"
)

// checkOptions returns the warnings about the options.
func (e *examination) checkOptions(context.Context) []Finding { return e.Options }

// checkPages opens the directory of the pages.
func (e *examination) checkPages(context.Context) []Finding {
	if err := e.Pages(); err != nil {
		return []Finding{failure("", fmt.Sprintf("The server would not start: %v.", err),
			"Set -public to a directory that the user of the server can read, or to nothing for the built-in pages.")}
	}
	return []Finding{good("", "The pages can be opened.")}
}
