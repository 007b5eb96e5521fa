package devserver

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"
	"github.com/temporalio/ui-server/v2/server/api"
	"github.com/temporalio/ui-server/v2/server/config"
	"github.com/temporalio/ui-server/v2/server/csrf"
	"github.com/temporalio/ui-server/v2/server/headers"
	"github.com/temporalio/ui-server/v2/server/route"
	"github.com/temporalio/ui-server/v2/server/rpc"
	"github.com/temporalio/ui-server/v2/ui"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc"
)

// A webUI is Temporal's own Web UI, assembled from its packages. Its own server would
// open a second port, which any web page can reach by DNS rebinding, and would exit the
// process on errors.
type webUI struct {
	url  string
	http *http.Server
	conn *grpc.ClientConn
}

// serveUI serves the Web UI on l in the background. It takes ownership of l.
func serveUI(l net.Listener, temporal, namespace string) (*webUI, error) {
	provider, err := config.NewConfigProviderWithRefresh(uiConfig(temporal, namespace))
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("temporal web ui: %w", err)
	}
	conn := rpc.CreateGRPCConnection(temporal, nil)
	pages, err := uiRoutes(provider, conn)
	if err != nil {
		l.Close()
		conn.Close()
		return nil, fmt.Errorf("temporal web ui: %w", err)
	}
	u := &webUI{
		url:  "http://" + l.Addr().String(),
		conn: conn,
		http: &http.Server{
			Handler:           guardRequests(portOf(l), pages),
			ReadHeaderTimeout: 10 * time.Second,
			ErrorLog:          log.New(io.Discard, "", 0), // errors of closed connections
		},
	}
	go u.http.Serve(l) //nolint:errcheck // ends with ErrServerClosed
	return u, nil
}

// close waits 200 ms for open requests, no longer: browsers keep polls open.
func (u *webUI) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if u.http.Shutdown(ctx) != nil {
		u.http.Close()
	}
	u.conn.Close()
}

// uiConfig disables the actions that would end a release without a rollback. Signals and
// updates, which approve, and cancel, which aborts, stay enabled.
func uiConfig(temporal, namespace string) *config.Config {
	return &config.Config{
		TemporalGRPCAddress:       temporal,
		DefaultNamespace:          namespace,
		EnableUI:                  true,
		HideLogs:                  true,
		DisableNewsFetch:          true,
		CORS:                      config.CORS{CookieInsecure: true}, // plain HTTP, on loopback
		WorkflowTerminateDisabled: true,
		WorkflowResetDisabled:     true,
		WorkflowPauseDisabled:     true,
		BatchActionsDisabled:      true,
		StartWorkflowDisabled:     true,
		ActivityCommandsDisabled:  true,
	}
}

func uiRoutes(provider *config.ConfigProviderWithRefresh, conn *grpc.ClientConn) (http.Handler, error) {
	assets, err := ui.Assets()
	if err != nil {
		return nil, err
	}
	if assets, err = fs.Sub(assets, "local"); err != nil {
		return nil, err
	}
	e := echo.New()
	e.Use(middleware.Recover(), middleware.Gzip(), middleware.Secure())
	e.Use(csrf.EnsureTokenCookie(false), middleware.CSRFWithConfig(csrf.MiddlewareConfig(provider, false)))
	route.SetHealthRoute(e)

	forward := []api.Middleware{headers.WithForwardHeaders([]string{"Caller-Type"})}
	v1 := e.Group("/api/v1")
	v1.GET("/settings", api.GetSettings(provider))
	v1.GET("/ui-extensions", api.GetUIExtensions(provider, api.TemporalAccessCheck(conn, forward)))
	v1.GET(api.WorkflowRawHistoryUrl, api.WorkflowRawHistoryHandler(workflowservice.NewWorkflowServiceClient(conn)))
	v1.Any("/*", api.TemporalAPIHandler(provider, forward, conn))

	if err := route.SetUIRoutes(e, "", assets, provider); err != nil {
		return nil, err
	}
	route.SetRenderRoute(e, "/")
	return e, nil
}

// guardRequests refuses requests with another host name: a web page whose name was
// rebound to 127.0.0.1 could approve otherwise. It also refuses the calls whose buttons
// uiConfig hides.
func guardRequests(port int, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !isOwnHost(r.Host, port):
			http.Error(w, fmt.Sprintf("this is the Temporal Web UI of release dev: open http://%s", hostPort(port)), http.StatusForbidden)
		case isDisabledCall(r):
			http.Error(w, "terminate and reset leave machines on two versions: use Cancel, which rolls back", http.StatusForbidden)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func isOwnHost(host string, port int) bool {
	name, ok := strings.CutSuffix(host, fmt.Sprintf(":%d", port))
	return ok && (name == loopback || strings.EqualFold(name, "localhost") || name == "[::1]")
}

// isDisabledCall reports whether r is a call of Temporal's HTTP API that ends or resets
// a workflow without a rollback.
func isDisabledCall(r *http.Request) bool {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return false
	}
	path := strings.TrimSuffix(r.URL.Path, "/")
	return r.Method == http.MethodDelete ||
		strings.HasSuffix(path, "/terminate") ||
		strings.HasSuffix(path, "/reset") ||
		strings.Contains(path, "/batch-operations/")
}
