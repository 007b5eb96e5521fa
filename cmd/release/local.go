//go:build !slim

package main

import (
	"github.com/microbima/release/internal/cli"
	"github.com/microbima/release/internal/localstack"
)

// localCommands need the local stack.
var localCommands = cli.LocalCommands{Dev: localstack.NewDev, Demo: localstack.NewDemo}
