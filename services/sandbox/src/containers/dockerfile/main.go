// Checks the Dockerfile on standard input as `docker buildx build --check` does, without a builder: it parses and resolves
// every stage for the platform that is its argument, and says what BuildKit warns of. Nothing is fetched: an image from
// elsewhere counts as an empty one.
package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerui"
	"github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// elsewhere stands in for registries.
type elsewhere struct{}

func (elsewhere) ResolveImageConfig(_ context.Context, ref string, _ sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	return ref, "", []byte("{}"), nil
}

func main() {
	if err := check(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func check() error {
	if len(os.Args) != 2 {
		return fmt.Errorf("usage: %s PLATFORM < Dockerfile", os.Args[0])
	}
	target, err := platforms.Parse(os.Args[1])
	if err != nil {
		return err
	}
	text, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	source := llb.NewSourceMap(nil, "Dockerfile", "Dockerfile", text)
	source.Definition = &llb.Definition{}
	results, err := dockerfile2llb.DockerfileLint(context.Background(), text, dockerfile2llb.ConvertOpt{
		Config: dockerui.Config{
			TargetPlatforms: []ocispecs.Platform{target},
			BuildPlatforms:  []ocispecs.Platform{platforms.MustParse("linux/amd64")},
		},
		TargetPlatform: &target,
		MetaResolver:   elsewhere{},
		SourceMap:      source,
	})
	if err != nil {
		return err
	}
	if results.Error != nil {
		results.PrintErrorTo(os.Stdout, nil)
		return fmt.Errorf("this is no Dockerfile that can be built")
	}
	if err := results.PrintTo(os.Stdout, nil); err != nil {
		return err
	}
	if len(results.Warnings) > 0 {
		return fmt.Errorf("%d warnings", len(results.Warnings))
	}
	return nil
}
