package config

import (
	"errors"
	"log/slog"
)

// Resolve validates the options, reads the files that they name, and derives the
// configuration. An error names the option and the source of its value, but never a
// secret.
func Resolve(o *Options, facts Facts) (*Config, error) {
	r := &resolver{o, facts, &Config{}}
	for _, step := range []func() error{
		r.checkDoctor, r.checkNumbers, r.checkQueue, r.resolvePoll, r.resolveDomains, r.resolveMetrics,
		r.resolveBind, r.resolveProxies, r.resolveOrigins, r.resolveICE, r.resolveStore, r.resolveTURN,
		r.resolveLog, r.resolveFiles,
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	r.resolveLimits()
	r.warnUnknownVars()
	r.warnNoEffect()
	return r.c, nil
}

func (r *resolver) checkDoctor() error {
	for name, given := range map[string]bool{"json": r.o.asJSON, "renew-test": r.o.renewTest} {
		if given && r.o.Command != Doctor {
			return r.o.optionError(name, errors.New("applies only to the doctor: inbox doctor -"+name))
		}
	}
	r.c.Doctor.JSON, r.c.Doctor.RenewTest = r.o.asJSON, r.o.renewTest
	return nil
}

func (r *resolver) resolveLog() error {
	if r.o.logFormat != "text" && r.o.logFormat != "json" {
		return r.o.optionError("log-format", errors.New("must be text or json"))
	}
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}
	level, ok := levels[r.o.logLevel]
	if !ok {
		return r.o.optionError("log-level", errors.New("must be debug, info, warn or error"))
	}
	r.c.LogJSON, r.c.LogLevel = r.o.logFormat == "json", level
	return nil
}

func (r *resolver) resolveFiles() error {
	r.c.CertFile, r.c.KeyFile = r.o.serverCert, r.o.serverKey
	r.c.CertFilesGiven = r.o.from["server-cert"]+r.o.from["server-key"] != ""
	r.c.StateDir = stateDir(r.o.state, r.facts.Getenv)
	return r.resolvePages()
}
