package buildkit

import (
	"context"
	"fmt"

	"github.com/moby/buildkit/client"
)

// A Builder builds Dockerfiles. One value may build several at a time.
type Builder struct {
	Address string // as BUILDKIT_HOST says it: unix:///run/buildkit/buildkitd.sock
}

// Ready says what is missing to build anything at all.
func (b *Builder) Ready(ctx context.Context) error {
	c, err := client.New(ctx, b.Address)
	if err != nil {
		return fmt.Errorf("BuildKit at %s: %w", b.Address, err)
	}
	defer c.Close()
	_, err = c.Info(ctx)
	return err
}
