package config

const (
	// spareFiles are for everything that has no count: sockets, the store, logs.
	spareFiles   = 64
	maxTarpitted = 1024
	maxPageFiles = 4096
	// fewFiles is a limit that suffices for a household, but not for a public server.
	fewFiles = 4096
)

// divideFiles divides a limit of open files. Of what is not spare, refused connections get up
// to an eighth and pages from a directory up to a quarter.
func divideFiles(limit int64, pagesDir bool) Files {
	if limit <= 0 {
		return Files{Tarpitted: maxTarpitted}
	}
	files := limit - min(spareFiles, limit/2)
	f := Files{Limit: limit, Tarpitted: int(min(maxTarpitted, files/8))}
	if pagesDir {
		f.Pages = int(max(1, min(maxPageFiles, files/4)))
	}
	f.Conns = max(1, files-int64(f.Tarpitted)-int64(f.Pages))
	return f
}

// FewFiles reports whether the limit of open files is too low for MaxConns, or so low that it
// is the reason why MaxConns is low.
func (c *Config) FewFiles() bool {
	f, conns := c.Files, int64(c.MaxConns)
	return f.Limit > 0 && (conns > f.Conns || f.Limit < fewFiles && conns == f.Conns)
}
