// Package localrunner makes flysim a Fly on a laptop: machines are processes, the
// registry is a folder, and an app's URL is a reverse proxy on loopback.
//
// Start reading at Runner (laptop.go), which implements flysim.Runner. Behind it
// stand the registry (registry.go), images and how they are unpacked (image.go,
// extract.go), the command and the environment of a machine (command.go),
// processes (process.go) and the edge in front of an app (proxy.go).
//
// # What is not as on Fly
//
// A machine is an ordinary process of the user who started it, not a VM. It
// sees the whole file system: there is no chroot, as that needs root.
//
//   - The executable is looked up inside the unpacked image, and so are words of
//     the command and env vars of the image that are absolute paths which exist
//     there. Any other absolute path is the laptop's own.
//   - Machines with one image share its unpacked files, and what a process
//     writes into its working folder stays. HOME and TMPDIR are folders of its
//     own, empty at each start.
//   - [mounts], [[files]] and several containers in one machine are not there;
//     the first lines of the machine's log say so.
//   - The image's user is ignored, and guest sizes are told, not enforced.
//
// # Ports
//
// Several machines of an app run side by side, so none can have its
// internal_port. Each gets a free port in PORT, whatever its fly.toml says, and
// every internal port of the machine leads there. A program that does not listen
// on PORT fails its checks. HOST says 127.0.0.1 unless the machine sets another
// one that is not a wildcard: a program that honours it is not seen from outside.
//
// # Names
//
// A laptop has no private DNS. In values of env vars http://APP.internal and
// http://APP.flycast, with any port and any prefix that Fly knows
// (REGION.APP.internal), are replaced by the URL of the app's edge. Addresses
// without http:// are left as they are, and so are those of fly.dev.
//
// # What is kept
//
// Everything is in one folder, which one Runner at a time may own. Images and
// the ports of apps survive a SIGKILL, so configs and URLs stay valid. Processes
// never survive it: on Linux the kernel ends them with their parent, and
// everywhere the next Runner on that folder ends what was left.
package localrunner
