// Command vault is the core of HashiCorp Vault 1.14 (the last one under the Mozilla Public License) with what tests need of
// it and nothing else: key/value secrets, AppRole and Kubernetes logins, and an audit log; no other plugin and no UI.
//
// It keeps its data in a folder and unseals itself with the key that it wrote there when it first started.
package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	log "github.com/hashicorp/go-hclog"
	kubernetes "github.com/hashicorp/vault-plugin-auth-kubernetes"
	kv "github.com/hashicorp/vault-plugin-secrets-kv"
	"github.com/hashicorp/vault/audit"
	auditfile "github.com/hashicorp/vault/builtin/audit/file"
	"github.com/hashicorp/vault/builtin/credential/approle"
	vaulthttp "github.com/hashicorp/vault/http"
	"github.com/hashicorp/vault/internalshared/configutil"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/physical/file"
	"github.com/hashicorp/vault/vault"
)

// What opens the vault again; written once.
type keys struct {
	Unseal []byte `json:"unseal"`
	Root   string `json:"root"`
}

// Which plugins are built in, as the catalogue asks for them.
type builtin struct{}

var kinds = map[consts.PluginType]map[string]logical.Factory{
	consts.PluginTypeSecrets:    {"kv": kv.Factory},
	consts.PluginTypeCredential: {"approle": approle.Factory, "kubernetes": kubernetes.Factory},
}

func (builtin) Contains(name string, kind consts.PluginType) bool {
	_, found := kinds[kind][name]
	return found
}

func (builtin) Get(name string, kind consts.PluginType) (func() (interface{}, error), bool) {
	factory, found := kinds[kind][name]
	return func() (interface{}, error) { return factory, nil }, found
}

func (builtin) Keys(kind consts.PluginType) []string {
	var names []string
	for name := range kinds[kind] {
		names = append(names, name)
	}
	return names
}

func (builtin) DeprecationStatus(string, consts.PluginType) (consts.DeprecationStatus, bool) {
	return consts.Supported, true
}

func (builtin) IsBuiltinEntPlugin(string, consts.PluginType) bool { return false }

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: vault <folder with server.crt and server.key> <address:port>")
		os.Exit(2)
	}
	if err := serve(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve(dir, address string) error {
	logger := log.New(&log.LoggerOptions{Level: log.Info})
	storage, err := file.NewFileBackend(map[string]string{"path": filepath.Join(dir, "data")}, logger)
	if err != nil {
		return err
	}
	core, err := vault.NewCore(&vault.CoreConfig{
		Physical:           storage,
		LogicalBackends:    kinds[consts.PluginTypeSecrets],
		CredentialBackends: kinds[consts.PluginTypeCredential],
		AuditBackends:      map[string]audit.Factory{"file": auditfile.Factory},
		BuiltinRegistry:    builtin{},
		DisableMlock:       true,
		Logger:             logger,
		RedirectAddr:       "https://" + address,
	})
	if err != nil {
		return err
	}
	defer core.Shutdown()
	certificate, err := tls.LoadX509KeyPair(filepath.Join(dir, "server.crt"), filepath.Join(dir, "server.key"))
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	if err := open(core, filepath.Join(dir, "keys.json")); err != nil {
		return err
	}
	server := &http.Server{
		Handler: vaulthttp.Handler.Handler(&vault.HandlerProperties{
			Core:           core,
			ListenerConfig: &configutil.Listener{Type: "tcp", Address: address},
		}),
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}},
		ReadHeaderTimeout: 10 * time.Second,
	}
	stop, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	go func() {
		<-stop.Done()
		server.Close()
	}()
	if err := server.ServeTLS(listener, "", ""); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Unseals; the first time, initializes before that and writes down the keys.
func open(core *vault.Core, file string) error {
	ctx := context.Background()
	var held keys
	initialized, err := core.Initialized(ctx)
	if err != nil {
		return err
	}
	if initialized {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(text, &held); err != nil {
			return err
		}
	} else {
		one := &vault.SealConfig{SecretShares: 1, SecretThreshold: 1}
		made, err := core.Initialize(ctx, &vault.InitParams{BarrierConfig: one, RecoveryConfig: one})
		if err != nil {
			return err
		}
		held = keys{Unseal: made.SecretShares[0], Root: made.RootToken}
		text, err := json.Marshal(held)
		if err != nil {
			return err
		}
		if err := os.WriteFile(file, text, 0o600); err != nil {
			return err
		}
	}
	unsealed, err := core.Unseal(held.Unseal)
	if err == nil && !unsealed {
		err = errors.New("one key does not unseal it")
	}
	return err
}
