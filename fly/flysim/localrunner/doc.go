// Package localrunner runs the machines of flysim on this computer: machines are
// processes, the registry is a folder, and an app's URL is a reverse proxy on
// loopback.
//
// Start reading at Runner (runner.go), which implements flysim.Runner. It uses
// the registry (registry.go), unpacked images (image.go, extract.go), the
// command and environment of a machine (command.go), processes (process.go) and
// the proxy of an app (appproxy.go).
//
// # Differences from Fly
//
// A machine is an ordinary process of the current user, not a VM. It sees the
// whole file system: a chroot would need root.
//
//   - The executable is looked up inside the unpacked image. Words of the command
//     and env vars of the image that are absolute paths of existing files of the
//     image are converted to local paths. Any other absolute path is the
//     computer's own.
//   - Machines with the same image share its unpacked files, and files that a
//     process writes into its working folder stay. HOME and TMPDIR are folders of
//     its own, empty at each start.
//   - [mounts], [[files]] and several containers in one machine are not
//     supported; the first lines of the machine's log name them.
//   - The image's user is ignored. The guest size is in the env vars, but not
//     enforced.
//
// # Ports
//
// Several machines of an app run side by side, so none can listen on its
// internal_port. Each gets a free port in PORT, whatever its fly.toml sets, and
// every internal port of the machine leads there. A program that does not listen
// on PORT fails its checks. HOST is 127.0.0.1 unless the machine sets an address
// that is not a wildcard: a program that uses it is not reachable from outside.
//
// # Names
//
// There is no private DNS. In values of env vars, http://APP.internal and
// http://APP.flycast, with any port and any prefix that Fly supports
// (REGION.APP.internal), are replaced by the URL of the app's proxy. Addresses
// without http:// and those of fly.dev are left unchanged.
//
// # State
//
// All state is in one folder, which one Runner at a time may own. Images and the
// ports of apps survive a SIGKILL, so configs and URLs stay valid. Processes
// never survive it: on Linux the kernel kills them with their parent, and on
// every system the next Runner on that folder kills those that are left.
package localrunner
