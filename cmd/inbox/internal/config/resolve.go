package config

import (
	"errors"
	"log/slog"
)

// Resolve validates the options, reads the files that they name, and derives the
// configuration. An error names the option and the source of its value, but never a
// secret. Several errors are joined, one line each.
func Resolve(o *Options, facts Facts) (*Config, error) {
	r := &resolver{o, facts, &Config{}}
	var errs []error
	for _, step := range []func() error{
		r.checkCommand, r.checkQueue, r.resolvePoll, r.resolveDomains, r.resolveMetrics, r.resolveBind, r.resolveProxies,
		r.resolveOrigins, r.resolveCompat, r.resolveICE, r.resolveStore, r.resolveTURN, r.resolveFiles, r.resolveAccess,
	} {
		errs = append(errs, step())
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	r.resolveLog()
	r.resolveLimits()
	r.warnUnknownVars()
	r.warnNoEffect()
	return r.c, nil
}

// checkCommand rejects options of other commands.
func (r *resolver) checkCommand() error {
	o := r.o
	r.c.Doctor.JSON, r.c.Doctor.RenewTest = o.asJSON, o.renewTest
	check := func(name string, given bool, command Command, why string) error {
		if !given || r.o.Command == command {
			return nil
		}
		return r.o.optionError(name, errors.New(why+" -"+name))
	}
	const onlyDoctor = "applies only to the doctor: inbox doctor"
	const onlyInvite = "applies only to invitations: inbox invite"
	return errors.Join(o.checkInvite(), check("label", o.label != "", Invite, onlyInvite), check("for", o.from["for"] != "", Invite, onlyInvite),
		check("list", o.list, Invite, onlyInvite), check("revoke", o.revoke != "", Invite, onlyInvite),
		check("json", o.asJSON, Doctor, onlyDoctor), check("renew-test", o.renewTest, Doctor, onlyDoctor),
		check("dry-run", o.dryRun, Setup, "applies only to the set-up: inbox setup"))
}

func (r *resolver) resolveLog() {
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}
	r.c.LogJSON, r.c.LogLevel = r.o.logFormat == "json", levels[r.o.logLevel]
}

func (r *resolver) resolveFiles() error {
	r.c.CertFile, r.c.KeyFile = r.o.serverCert, r.o.serverKey
	r.c.CertFilesGiven = r.o.from["server-cert"]+r.o.from["server-key"] != ""
	r.c.StateDir = stateDir(r.o.state, r.facts.Getenv)
	return r.resolvePages()
}
