//go:build slim

package main

import "github.com/microbima/release/internal/cli"

// localCommands are not in a slim build.
var localCommands cli.LocalCommands
