package config

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"

	"inbox/cmd/inbox/internal/nearest"
)

// fromCommandLine is the source of options of the command line.
const fromCommandLine = "command line"

// Command is what the program is asked to do.
type Command int

// The commands.
const (
	Serve      Command = iota
	Help               // inbox help, or -h
	Doctor             // inbox doctor
	Health             // inbox health
	Invite             // inbox invite
	Setup              // inbox setup
	ShowConfig         // inbox config
	ShowStatus         // inbox status
	Version            // inbox version, or -version
)

// commands are the first words of a command line.
var commands = map[string]Command{
	"help": Help, "doctor": Doctor, "health": Health, "invite": Invite, "setup": Setup,
	"config": ShowConfig, "status": ShowStatus, "version": Version,
}

// Commands returns the names of the commands, in the order of the help text.
func Commands() []string {
	return []string{"config", "doctor", "health", "help", "invite", "setup", "status", "version"}
}

// serveWords are first words by which other programs start a server.
var serveWords = []string{"serve", "server", "start", "run"}

// ShortHelp is the topic of -h, and HelpTopics that of inbox help.
const (
	ShortHelp  = ""
	HelpTopics = "topics"
)

// errHelp ends the parsing of a command line that asks for help.
var errHelp = errors.New("help requested")

// parseCommand returns the arguments behind the command.
func (o *Options) parseCommand(args []string) []string {
	if len(args) == 0 {
		return args
	}
	command, found := commands[args[0]]
	if !found {
		return args
	}
	o.Command = command
	return args[1:]
}

// requestHelp makes help the command. Several words are one topic: exit codes is exit-codes.
// Without a word, it is the help of the command.
func (o *Options) requestHelp(words []string, command Command) {
	words = slices.DeleteFunc(slices.Clone(words), func(word string) bool { return slices.Contains([]string{"-h", "-help", "--help"}, word) })
	o.Command, o.Topic = Help, ShortHelp
	for name, c := range commands {
		if c == command && c != Help {
			o.Topic = name
		}
	}
	if len(words) > 0 {
		o.Topic = strings.Join(words, "-")
	} else if command == Help {
		o.Topic = HelpTopics
	}
}

// parseArgs sets the options of a command line, and returns all errors.
func (o *Options) parseArgs(args []string) error {
	var errs []error
	command := o.Command
	for i := 0; i < len(args); {
		used, err := o.parseArg(args[i:], i == 0 && command == Serve)
		if errors.Is(err, errHelp) {
			o.requestHelp(helpWords(args[i+1:]), command)
			return nil
		}
		errs = append(errs, err)
		i += used
	}
	return errors.Join(errs...)
}

// helpWords returns the arguments before the next option.
func helpWords(args []string) []string {
	for i, arg := range args {
		if strings.HasPrefix(arg, "-") {
			return args[:i]
		}
	}
	return args
}

// parseArg parses an option with its value, or reports a single argument.
func (o *Options) parseArg(args []string, first bool) (used int, err error) {
	name, value, hasValue := splitArg(args[0])
	f := o.flags.Lookup(name)
	switch {
	case args[0] == "--" && len(args) == 1:
		return 1, nil
	case name == "":
		return 1, o.unexpected(args[0], first)
	case name == "h" || name == "help":
		return 1, errHelp
	case f == nil:
		return o.unknownOption(name, args[1:], hasValue)
	case hasValue:
		return 1, o.assign(name, value, fromCommandLine)
	case isBoolean(f):
		return o.assignSwitch(name, args[1:])
	case len(args) == 1 || o.isOption(args[1]):
		return 1, fmt.Errorf("-%s (from %s): requires a value, as in -%[1]s %[3]s", name, fromCommandLine, o.example(f))
	}
	return 2, o.assign(name, args[1], fromCommandLine)
}

// splitArg splits -name=value and --name=value. The name is empty if the argument is no option.
func splitArg(arg string) (name, value string, hasValue bool) {
	text, isOption := strings.CutPrefix(arg, "-")
	if !isOption {
		return "", "", false
	}
	text = strings.TrimPrefix(text, "-")
	if strings.HasPrefix(text, "-") || strings.HasPrefix(text, "=") {
		return "", "", false
	}
	return strings.Cut(text, "=")
}

// isOption reports whether an argument is an option, and therefore hardly the value of another.
func (o *Options) isOption(arg string) bool {
	name, _, _ := splitArg(arg)
	return o.flags.Lookup(name) != nil
}

// example returns a value for an option in an error.
func (o *Options) example(f *flag.Flag) string {
	if f.DefValue != "" {
		return f.DefValue
	}
	value, _ := flag.UnquoteUsage(f)
	return strings.ToUpper(value)
}

// assignSwitch sets a boolean option, and rejects a value that is not joined to it by =.
func (o *Options) assignSwitch(name string, rest []string) (used int, err error) {
	if len(rest) > 0 {
		switch strings.ToLower(rest[0]) {
		case "true", "false", "on", "off", "yes", "no", "0", "1":
			return 2, fmt.Errorf("-%s (from %s): unexpected argument %q; write a switch and its value as -%[1]s=true or -%[1]s=false",
				name, fromCommandLine, rest[0])
		}
	}
	return 1, o.assign(name, "true", fromCommandLine)
}

// unknownOption reports an option, and skips what is probably its value.
func (o *Options) unknownOption(name string, rest []string, hasValue bool) (used int, err error) {
	used = 1
	if !hasValue && len(rest) > 0 && !strings.HasPrefix(rest[0], "-") {
		used = 2
	}
	hint := "; inbox -h all lists the options"
	if option := o.nearestOption(name); option != "" {
		hint = didYouMean("-" + option)
	}
	return used, fmt.Errorf("unknown option -%s (from %s)%s", printable(shorten(name)), fromCommandLine, hint)
}

// refuseOptions reports the options of the version command, which would ignore them.
func (o *Options) refuseOptions() error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(o.given)) {
		if name != "version" {
			errs = append(errs, fmt.Errorf("-%s (from %s): inbox version has no options; remove it, or "+
				"check the options with inbox config", name, o.from[name]))
		}
	}
	return errors.Join(errs...)
}

// unexpected returns an error about an argument that is neither an option nor a value.
func (o *Options) unexpected(arg string, first bool) error {
	switch _, isCommand := commands[arg]; {
	case strings.HasPrefix(arg, "-"):
		return fmt.Errorf("unexpected argument %q (from %s): write an option as -name VALUE or -name=VALUE", shorten(arg), fromCommandLine)
	case isCommand:
		return fmt.Errorf("unexpected argument %q (from %s): a command comes before the options, as in inbox %[1]s -domain example.org", arg, fromCommandLine)
	case !first:
		return fmt.Errorf("unexpected argument %q (from %s): options begin with a dash; put a value with blanks in quotation marks", shorten(arg), fromCommandLine)
	}
	hint := "; inbox help lists the commands"
	if nearest.Of(arg, serveWords...) != "" {
		hint = ": inbox without a command starts the server"
	}
	if command := nearest.Of(strings.ToLower(arg), Commands()...); command != "" {
		hint = didYouMean(command)
	} else if o.flags.Lookup(arg) != nil {
		hint = didYouMean("-" + arg)
	}
	return fmt.Errorf("unknown command %q (from %s)%s", shorten(arg), fromCommandLine, hint)
}
