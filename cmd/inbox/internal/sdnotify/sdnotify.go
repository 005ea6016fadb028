// Package sdnotify implements a service's side of the systemd protocols: socket
// activation (sd_listen_fds(3)), status notification and watchdog (sd_notify(3)),
// and log priorities for the journal (sd-daemon(3)). Without systemd, or another
// service manager that implements them, every function does nothing. The
// environment is read through a function like [os.Getenv].
package sdnotify
