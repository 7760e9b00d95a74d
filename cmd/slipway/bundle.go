package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"slipway.dev/slipway/provision/bundle"
)

// cacheDir is where bundles are stored: $SLIPWAY_CACHE_DIR or ~/.cache/slipway.
func cacheDir() (string, error) {
	if dir := os.Getenv("SLIPWAY_CACHE_DIR"); dir != "" {
		return dir, nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("no cache directory: %w; set SLIPWAY_CACHE_DIR", err)
	}
	return filepath.Join(home, ".cache", "slipway"), nil
}

// newBundleCmd is `slipway bundle`: it makes, lists and checks what hosts are installed from.
func newBundleCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bundle",
		Short: "Make, list and check the programs and images that hosts are installed from",
		Long: `A bundle holds every program and image that a host needs to become a node, each with its SHA-256.
It is kept in $SLIPWAY_CACHE_DIR, or ~/.cache/slipway, under bundles/<digest>.`,
		Example: `  slipway bundle build                            # from source, with go and gcc
  slipway bundle build --arch amd64,arm64         # for hosts of both architectures
  slipway bundle download                         # upstream's releases, checked against pinned digests
  slipway bundle download --mirror /media/usb     # the same, from a copy
  slipway bundle verify                           # check every file
  slipway bundle mirror /srv/mirror               # write what machines can fetch from a web server`,
		Args: cobra.NoArgs,
	}
	cmd.AddCommand(
		newBundleMakeCmd(a, "build", "Build a bundle from source", buildHelp, bundle.Build),
		newBundleMakeCmd(a, "download", "Download a bundle from upstream's releases or a mirror of them", downloadHelp, bundle.Download),
		newBundleListCmd(a),
		newBundleVerifyCmd(a),
		newBundleMirrorCmd(a),
		newBundlePruneCmd(a),
	)
	return cmd
}

const (
	buildHelp = `Build a bundle from source: pinned Go modules, verified by their checksums, and runc, whose C parts need gcc.

It needs go, gcc, pkg-config and libseccomp's headers, and network access to the Go module proxy. Components that were
built before are reused; the first build takes about a quarter of an hour on two processors. If no bundle is in the cache, apply
downloads one, or builds it if it cannot.

--arch builds for hosts of another architecture. runc, flannel and pause then need its C compiler and libraries; what is
missing is named with Debian's package. All programs are checked to be for it, by their ELF headers.`
	downloadHelp = `Download a bundle from upstream's releases, or from a mirror with the same paths. Every file is verified against a pinned
SHA-256: slipway's own, or yours from --pins or bundle.lock next to the spec. docs/bundle.md has the details.`
)

// newBundleMakeCmd is `slipway bundle build` and `download`, which differ only in the source.
func newBundleMakeCmd(a *app, use, short, long string, produce func(context.Context, bundle.Options) (*bundle.Bundle, error)) *cobra.Command {
	var options bundle.Options
	var pins string
	var archs []string
	cmd := &cobra.Command{
		Use:   use,
		Short: short,
		Long:  long,
		Example: fmt.Sprintf(`  slipway bundle %[1]s
  slipway bundle %[1]s --arch arm64                   # or amd64,arm64 for both
  slipway bundle %[1]s --kubernetes-version %[2]s --output json`, use, bundle.Versions()[0]),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if options.CacheDir, err = cacheDir(); err != nil {
				return err
			}
			if use == "download" {
				if err := a.pins(&options, pins); err != nil {
					return err
				}
			}
			if len(archs) == 0 {
				return errors.New("--arch names no architecture: name one, or omit the flag")
			}
			for _, arch := range archs { // all before the first, which may take a quarter of an hour
				if err := bundle.CheckArchitecture(arch); err != nil {
					return err
				}
			}
			var bundles []*bundle.Bundle
			for _, options.Arch = range archs {
				b, err := a.makeBundle(cmd.Context(), options, produce)
				if err != nil {
					return errors.Join(a.printMade(bundles), err)
				}
				bundles = append(bundles, b)
			}
			return a.printBundles(bundles...)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&options.KubernetesVersion, "kubernetes-version", bundle.Versions()[0], "the Kubernetes release")
	if use == "download" {
		cmd.Example += `
  slipway bundle download --mirror /media/usb         # a directory, or a URL, with upstream's paths
  slipway bundle download --pins upstream.sha256      # digests from another source
  slipway bundle download --trust-published-digests   # trust files without a pin; writes bundle.lock, to be kept next to the spec`
		flags.StringVar(&options.Mirror, "mirror", "", "URL or directory with upstream's paths beneath it, instead of upstream")
		flags.StringVar(&pins, "pins", "", "file with the SHA-256 of upstream's files, as sha256sum writes it (default: bundle.lock next to the spec)")
		flags.BoolVar(&options.TrustPublished, "trust-published-digests", false,
			"accept files without a pin by the digests published with them, and add these to the file of --pins")
		flags.BoolVar(&options.InsecureHTTP, "insecure-http", false, "allow a mirror on another computer without TLS")
	}
	flags.StringSliceVar(&archs, "arch", []string{runtime.GOARCH}, "the hosts' architectures: "+strings.Join(bundle.Architectures(), ", "))
	completeWords(cmd, "arch", bundle.Architectures)
	return cmd
}

// makeBundle makes one, and shows how.
func (a *app) makeBundle(
	ctx context.Context, options bundle.Options, produce func(context.Context, bundle.Options) (*bundle.Bundle, error),
) (*bundle.Bundle, error) {
	p := newProgress(a.stderr, isTerminal(a.stderr) && !a.verbose, io.Discard, nil)
	show, shown := p.bundle(), false
	options.Progress = func(e bundle.Event) {
		shown = true
		show(e)
	}
	b, err := produce(ctx, options)
	if shown {
		p.Done(err)
	}
	return b, err
}

// printMade prints bundles that were made before one failed; nothing if there are none.
func (a *app) printMade(bundles []*bundle.Bundle) error {
	if len(bundles) == 0 {
		return nil
	}
	return a.printBundles(bundles...)
}

// bundleLock is where digests of upstream's files are stored that slipway does not pin: next to the
// spec, for all its users.
func (a *app) bundleLock() string {
	if a.file == "-" {
		return "bundle.lock"
	}
	return filepath.Join(filepath.Dir(a.file), "bundle.lock")
}

// pins has a download use the digests of a file, and add the digests that it learns.
func (a *app) pins(o *bundle.Options, file string) (err error) {
	if file == "" {
		file = a.bundleLock()
	} else if _, err := os.Stat(file); err != nil && !o.TrustPublished {
		return fmt.Errorf("read pinned digests: %w", err)
	}
	if o.Pins, err = bundle.ReadPins(file); err != nil {
		return err
	}
	known := o.Pins
	o.Learned = func(learned bundle.Pins) error {
		all := maps.Clone(known)
		maps.Copy(all, learned)
		known = all // of the next architecture, too
		_, _ = fmt.Fprintf(a.stderr, "%d digests were trusted as published next to the files, and are in %s now: "+
			"compare them with another source, and keep the file with the spec\n", len(learned), file)
		return bundle.WritePins(file, all)
	}
	return nil
}

func newBundleListCmd(a *app) *cobra.Command {
	var artifacts bool
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the bundles on this computer",
		Example: "  slipway bundle list\n  slipway bundle list --artifacts\n  slipway bundle list --output json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			dir, err := cacheDir()
			if err != nil {
				return err
			}
			bundles, broken := bundle.List(dir)
			if artifacts && a.output == "text" {
				err = printArtifacts(a.stdout, bundles)
			} else {
				err = a.printBundles(bundles...)
			}
			return errors.Join(err, broken)
		},
	}
	cmd.Flags().BoolVar(&artifacts, "artifacts", false, "list their contents")
	return cmd
}

func newBundleVerifyCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "verify [digest or directory]...",
		Short: "Read bundles, and check every file's SHA-256 and architecture",
		Example: `  slipway bundle verify                       # all on this computer
  slipway bundle verify /media/usb/0123456789abcdef`,
		RunE: func(cmd *cobra.Command, args []string) error {
			bundles, broken, err := openBundles(args)
			if err != nil {
				return err
			}
			var whole []*bundle.Bundle
			for _, b := range bundles {
				if err := b.Verify(cmd.Context()); err != nil {
					broken = errors.Join(broken, err)
					continue
				}
				whole = append(whole, b)
			}
			if err := a.printBundles(whole...); err != nil {
				return err
			}
			if broken != nil {
				return fmt.Errorf("%w\nremove what is damaged, then run `slipway bundle build` or `download` again", broken)
			}
			return nil
		},
	}
}

// openBundles opens those named by digest or directory, or all; broken has those that could not be
// opened.
func openBundles(args []string) (bundles []*bundle.Bundle, broken, err error) {
	dir, err := cacheDir()
	if err != nil {
		return nil, nil, err
	}
	if len(args) == 0 {
		bundles, broken = bundle.List(dir)
		return bundles, broken, nil
	}
	for _, arg := range args {
		path := arg
		if filepath.Base(arg) == arg {
			path = filepath.Join(dir, "bundles", arg)
		}
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return nil, nil, fmt.Errorf("there is no bundle %s: `slipway bundle list` shows those in the cache", arg)
		}
		b, err := bundle.Open(path)
		if err != nil {
			broken = errors.Join(broken, err)
			continue
		}
		bundles = append(bundles, b)
	}
	return bundles, broken, nil
}

// bundleOutput is a bundle as --output json prints it.
type bundleOutput struct {
	Digest    string `json:"digest"`
	Arch      string `json:"arch"`
	Directory string `json:"directory"`
	Size      int64  `json:"size"` // bytes
	*bundle.Bundle
}

func (a *app) printBundles(bundles ...*bundle.Bundle) error {
	if a.output == "json" {
		list := make([]bundleOutput, 0, len(bundles))
		for _, b := range bundles {
			list = append(list, bundleOutput{b.Digest, b.Arch(), b.Dir, b.Size(), b})
		}
		return a.printJSON(map[string]any{"bundles": list})
	}
	if len(bundles) == 0 {
		_, err := fmt.Fprintln(a.stdout, "no bundles")
		return err
	}
	w := tabwriter.NewWriter(a.stdout, 0, 8, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "DIGEST\tKUBERNETES\tARCH\tARTIFACTS\tSIZE\tDIRECTORY")
	for _, b := range bundles {
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d MB\t%s\n", b.Digest, b.KubernetesVersion, b.Arch(), len(b.Artifacts), b.Size()>>20, b.Dir)
	}
	return w.Flush()
}

func printArtifacts(out io.Writer, bundles []*bundle.Bundle) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "BUNDLE\tCOMPONENT\tVERSION\tPATH\tPLATFORM\tSIZE\tSHA-256")
	for _, b := range bundles {
		for _, f := range b.Artifacts {
			_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s/%s\t%d\t%s\n",
				b.Digest, f.Component, f.Version, f.Path, f.OS, f.Arch, f.Size, f.SHA256)
		}
	}
	return w.Flush()
}
