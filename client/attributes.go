package client

import (
	"context"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"

	"github.com/microbima/release/release"
)

// SearchAttributes returns the names of the search attributes that releases set.
func SearchAttributes() []string {
	return []string{release.AttrProject, release.AttrRevision, release.AttrEnvironment, release.AttrPhase, release.AttrOutcome}
}

// RegisterSearchAttributes adds the search attributes that the namespace lacks.
func (c *Client) RegisterSearchAttributes(ctx context.Context) error {
	call, cancel := context.WithTimeout(ctx, 2*DialTimeout)
	defer cancel()
	service := c.temporal.OperatorService()
	known, err := service.ListSearchAttributes(call, &operatorservice.ListSearchAttributesRequest{Namespace: c.namespace})
	missing := map[string]enums.IndexedValueType{}
	for _, name := range SearchAttributes() {
		if _, ok := known.GetCustomAttributes()[name]; !ok {
			missing[name] = enums.INDEXED_VALUE_TYPE_KEYWORD
		}
	}
	if err == nil && len(missing) > 0 {
		_, err = service.AddSearchAttributes(call, &operatorservice.AddSearchAttributesRequest{Namespace: c.namespace, SearchAttributes: missing})
	}
	return c.Wrap(ctx, "register search attributes", err)
}
