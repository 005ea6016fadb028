package config

import "testing"

func TestFilesAreDivided(t *testing.T) {
	for _, row := range []struct {
		limit            int64
		pagesDir         bool
		conns            int64
		tarpitted, pages int
	}{
		{0, false, 0, 1024, 0},
		{0, true, 0, 1024, 0},
		{1, true, 1, 0, 1},
		{64, false, 28, 4, 0},
		{256, false, 168, 24, 0},
		{1024, false, 840, 120, 0},
		{1024, true, 600, 120, 240},
		{4096, true, 2520, 504, 1008},
		{1 << 20, true, 1<<20 - 64 - 1024 - 4096, 1024, 4096},
	} {
		f := divideFiles(row.limit, row.pagesDir)
		if f.Conns != row.conns || f.Tarpitted != row.tarpitted || f.Pages != row.pages {
			t.Errorf("%d files, pages %v: got %+v, want %d, %d, %d", row.limit, row.pagesDir, f, row.conns, row.tarpitted, row.pages)
		}
		if sum := f.Conns + int64(f.Tarpitted) + int64(f.Pages); row.limit > 2 && sum > row.limit {
			t.Errorf("%d files: got a sum of %d", row.limit, sum)
		}
	}
}

func TestFewFiles(t *testing.T) {
	for _, row := range []struct {
		name  string
		args  []string
		files int64
		want  bool
	}{
		{"a low limit", nil, 1024, true},
		{"a low limit that suffices", []string{"-max-conns", "100"}, 1024, false},
		{"a usual limit", nil, 1 << 20, false},
		{"more connections than files", []string{"-max-conns", "100000"}, 1 << 16, true},
		{"unknown", nil, 0, false},
	} {
		c := mustResolve(t, Facts{MemoryBytes: 1 << 30, OpenFiles: row.files}, row.args...)
		if got := c.FewFiles(); got != row.want {
			t.Errorf("%s: got %v, want %v", row.name, got, row.want)
		}
	}
}
