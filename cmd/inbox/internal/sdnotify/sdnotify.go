// Package systemd is the program's part in the conversation with the service
// manager: sockets that it passes on, notices of readiness and of life, and
// lines whose priority its journal knows. Without a service manager each of
// them does nothing. It speaks the protocols of systemd, which others speak
// too, and asks the environment through a function, as of [os.Getenv].
package sdnotify
