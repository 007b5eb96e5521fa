package devserver

import (
	"context"
	"fmt"
	"strings"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// ensureAttributes adds the search attributes that a namespace lacks because an older
// version created it, and checks the type of each: Temporal accepts an attribute that
// exists with another type, and changes nothing.
func ensureAttributes(ctx context.Context, conn *grpc.ClientConn, namespace string, names []string) error {
	operator := operatorservice.NewOperatorServiceClient(conn)
	known, err := attributeTypes(ctx, operator, namespace)
	if err != nil {
		return err
	}
	missing := make(map[string]enumspb.IndexedValueType)
	for _, name := range names {
		if _, ok := known[name]; !ok {
			missing[name] = enumspb.INDEXED_VALUE_TYPE_KEYWORD
		}
	}
	if len(missing) > 0 {
		_, err := operator.AddSearchAttributes(ctx, &operatorservice.AddSearchAttributesRequest{
			Namespace: namespace, SearchAttributes: missing,
		})
		if err != nil {
			return fmt.Errorf("adding search attributes to namespace %s: %w", namespace, err)
		}
		if err := waitUsable(ctx, conn, namespace, missing); err != nil {
			return fmt.Errorf("waiting for search attributes of namespace %s: %w", namespace, err)
		}
		if known, err = attributeTypes(ctx, operator, namespace); err != nil {
			return err
		}
	}
	for _, name := range names {
		if got := known[name]; got != enumspb.INDEXED_VALUE_TYPE_KEYWORD {
			return fmt.Errorf("search attribute %s of namespace %s has type %s, not Keyword: "+
				"remove it with temporal operator search-attribute remove", name, namespace, got)
		}
	}
	return nil
}

func attributeTypes(ctx context.Context, operator operatorservice.OperatorServiceClient, namespace string) (map[string]enumspb.IndexedValueType, error) {
	list, err := operator.ListSearchAttributes(ctx, &operatorservice.ListSearchAttributesRequest{Namespace: namespace})
	if err != nil {
		return nil, fmt.Errorf("listing search attributes of namespace %s: %w", namespace, err)
	}
	return list.CustomAttributes, nil
}

// waitUsable waits until workflows can use attributes that were just added: each of
// Temporal's services reads them after a delay.
func waitUsable(ctx context.Context, conn *grpc.ClientConn, namespace string, added map[string]enumspb.IndexedValueType) error {
	var conditions []string
	for name := range added {
		conditions = append(conditions, name+" = 'any'")
	}
	request := &workflowservice.CountWorkflowExecutionsRequest{Namespace: namespace, Query: strings.Join(conditions, " AND ")}
	for {
		_, err := workflowservice.NewWorkflowServiceClient(conn).CountWorkflowExecutions(ctx, request)
		if err != nil && status.Code(err) != codes.InvalidArgument {
			return err
		}
		select { // also after a success: another service may not have read them yet
		case <-time.After(refresh + refresh/2):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err == nil {
			return nil
		}
	}
}
