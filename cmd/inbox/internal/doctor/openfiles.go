package doctor

import (
	"context"
	"fmt"
)

// checkOpenFiles reports a limit of open files that is too low. The limit is that of the
// doctor's process, which is often that of a shell.
func (e *examination) checkOpenFiles(context.Context) []Finding {
	return []Finding{warning("",
		fmt.Sprintf("A server started here would have at most %d connections, because the limit of open files is %d.", e.MaxConns, e.FewFiles),
		"Raise it: LimitNOFILE=524288 in the service, or ulimit -n 65536 in this shell.")}
}
