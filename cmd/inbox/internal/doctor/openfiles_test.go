package doctor

import "testing"

func TestDoctorChecksOpenFiles(t *testing.T) {
	fewFiles := func(s *testEnv) { withoutCA(s); s.FewFiles, s.MaxConns = 1024, 840 }
	runCases(t, []testCase{
		{"a low limit", fewFiles, expect{"open-files", Warning, "at most 840 connections", "LimitNOFILE="}},
		{"in the server, which logs it", func(s *testEnv) { fewFiles(s); s.InServer = true }, expect{"clock", OK, "", ""}},
	})
}
