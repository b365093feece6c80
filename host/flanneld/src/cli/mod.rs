//! The command line: flags, environment, and subcommands, from one definition that also makes the help, the man page and the
//! shell completions.

#![allow(
    rustdoc::broken_intra_doc_links,
    rustdoc::bare_urls,
    reason = "comments of flags are what `--help` shows"
)]

mod arguments;
mod config;
mod environment;
mod instance;
mod kubernetes;
mod options;
mod own_places;
mod syntax;
mod trial;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;

use flannel_plugin_host::{PluginReference, RegistryReference};

pub use arguments::normalised;
pub use config::{ConfigCommand, DaemonFlags};
pub use options::{LogFormat, Options, Store};
pub use trial::{ClusterFamilies, Trial};

/// Gives this host a subnet of the cluster network and makes the other hosts' subnets reachable.
///
/// How packets get from host to host is decided by a plugin, a WebAssembly component: the built-in one for the
/// Backend.Type of the network config, or the one given with --plugin.
///
/// Flags take one or two dashes, and a value behind `=` or as the next argument. Each can be given in the environment
/// instead: FLANNELD_ and its name in capitals, with `_` for `-`. The command line comes first.
#[derive(Clone, Parser)]
#[command(
    name = "flanneld",
    version,
    disable_version_flag = true,
    args_conflicts_with_subcommands = true,
    args_override_self = true,
    max_term_width = 100
)]
pub struct Cli {
    /// Something other than serving.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Print the version and exit
    #[arg(long)]
    pub version: bool,

    /// How to serve.
    #[command(flatten)]
    pub options: Options,

    /// What was given, for the log: each flag with its value, and the variable that it came from. Without the password.
    #[arg(skip)]
    pub given: Vec<String>,
}

/// Something other than serving.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Work on plugins
    #[command(subcommand)]
    Plugin(Box<PluginCommand>),
    /// Show how this node's daemon is doing
    Status {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
        /// The daemon's socket
        #[arg(long, value_name = "FILE", default_value = "/run/flannel/flanneld.sock")]
        control_socket: PathBuf,
    },
    /// Work on the network config
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Work on the firewall's rules
    #[command(subcommand)]
    Firewall(FirewallCommand),
    /// Write options for a Docker daemon from the subnet file, as upstream's mk-docker-opts.sh does
    DockerOpts(DockerOpts),
    /// Print the completion script of a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
}

/// Work on plugins.
#[derive(Clone, Debug, Subcommand)]
pub enum PluginCommand {
    /// Compile a component ahead of time, in the form in which plugins are built into flanneld
    Compile {
        /// The component
        component: PathBuf,
        /// The file to write
        output: PathBuf,
    },
    /// Show what a plugin is and asks for: name, version, backend types, imports and what they let it do, size, digest
    Inspect {
        /// The component: a file or oci://…, as for --plugin; without it all built-in plugins
        #[arg(value_name = "REF")]
        component: Option<PluginReference>,
        /// The daemon's file with grants
        #[arg(long, value_name = "FILE")]
        plugin_grants: Option<PathBuf>,
        /// Print one JSON array
        #[arg(long)]
        json: bool,
    },
    /// Put another plugin in the place of the one that serves on this node, while packets flow: all or nothing
    ///
    /// The new plugin is loaded, started and told of all leases beside the old one. If all of that goes well, what it declares
    /// otherwise than the old one is changed in the kernel, and nothing else; if anything goes wrong, the old one goes on, and this
    /// says why. After a restart the daemon begins with the plugin of its own command line again.
    Swap {
        /// The component: a file or oci://…, as for --plugin
        #[arg(value_name = "REF")]
        component: PluginReference,
        /// Hand over a copy of what the old plugin keeps in its durable store, in place of what the new one has there
        #[arg(long)]
        take_state: bool,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
        /// The daemon's socket
        #[arg(long, value_name = "FILE", default_value = "/run/flannel/flanneld.sock")]
        control_socket: PathBuf,
    },
    /// Publish a component in an OCI registry, with the credentials that `docker login` has left; prints the reference to pin
    Push {
        /// The component
        component: PathBuf,
        /// Where to: oci://REGISTRY[:PORT]/REPOSITORY:TAG
        #[arg(value_name = "REF")]
        to: RegistryReference,
        /// Sign it with this private key: PEM, of PKCS#8 or as cosign encrypts it, with its password in COSIGN_PASSWORD
        #[arg(long, value_name = "KEYFILE")]
        sign: Option<PathBuf>,
    },
    /// Work on the contract, which is a WIT package
    #[command(subcommand)]
    Wit(WitCommand),
    /// Fetch a component from an OCI registry into the cache, and into a file; prints the reference to pin
    Pull {
        /// The component: oci://…, as for --plugin
        #[arg(value_name = "REF")]
        component: RegistryReference,
        /// The file to write
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Refuse it unless this public key, or another one that is given so, has signed it; may be given several times
        #[arg(long, value_name = "FILE")]
        key: Vec<PathBuf>,
    },
    /// Sign a plugin, as cosign does: a file's signature goes beside it, that of one in a registry into the registry
    Sign {
        /// The plugin: a file or oci://…, as for --plugin
        #[arg(value_name = "REF")]
        component: PluginReference,
        /// The private key: PEM, of PKCS#8 or as cosign encrypts it, with its password in COSIGN_PASSWORD
        #[arg(long, value_name = "KEYFILE")]
        key: PathBuf,
        /// Where a file's signature goes; without it, FILE.sig, where daemons look for it
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Verify a plugin's signature; ends with status 1 if none of the keys has signed it
    Verify {
        /// The plugin: a file, with its signature in FILE.sig or FILE.sigstore.json, or oci://…, as for --plugin
        #[arg(value_name = "REF")]
        component: PluginReference,
        /// A public key, as PEM; may be given several times
        #[arg(long, value_name = "FILE", required = true)]
        key: Vec<PathBuf>,
    },
    /// Measure what calls of a plugin cost; nothing is changed anywhere
    Bench {
        /// The component: a file or oci://…, as for --plugin; without it the built-in plugin for the backend's type
        #[arg(value_name = "REF")]
        component: Option<PluginReference>,
        /// What it is tried with
        #[command(flatten)]
        trial: Trial,
        /// Made-up leases in a call; may be given several times
        #[arg(long, value_name = "N", conflicts_with = "leases", default_values_t = [1, 100, 10_000], value_parser = clap::value_parser!(u16).range(1..i64::from(u16::MAX)))]
        count: Vec<u16>,
        /// Print one JSON array
        #[arg(long)]
        json: bool,
    },
    /// Show what a plugin wants to have, on a made-up node; nothing is changed anywhere
    Run {
        /// The component: a file or oci://…, as for --plugin; without it the built-in plugin for the backend's type
        #[arg(value_name = "REF")]
        component: Option<PluginReference>,
        /// What it is tried with
        #[command(flatten)]
        trial: Trial,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Check that a plugin keeps to the contract, without root and without a node, and show what it declares
    Check {
        /// The component: a file or oci://…, as for --plugin; without it the built-in plugin for the backend's type, or all
        #[arg(value_name = "REF")]
        component: Option<PluginReference>,
        /// What it is tried with
        #[command(flatten)]
        trial: Trial,
        /// Compare what it declares with this file
        #[arg(long, value_name = "FILE", requires = "component")]
        golden: Option<PathBuf>,
        /// Write that file instead
        #[arg(long, requires = "golden")]
        bless: bool,
        /// Make those checks alone that take a second or two together: what is wrong at once, but not whether it conforms
        #[arg(long, conflicts_with = "only")]
        quick: bool,
        /// Make these checks alone, by name or by how several begin, such as apply-one or limits; one that there is not lists them
        #[arg(long, value_name = "NAMES", value_delimiter = ',')]
        only: Vec<String>,
        /// Calls of the long run, limits-long-run: 30,000 without this, a million for who wants to see when a language's runtime collects its garbage
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(20_000..=100_000_000), conflicts_with = "quick")]
        calls: Option<u32>,
        /// Print one JSON array, with an object for each plugin
        #[arg(long)]
        json: bool,
    },
    /// Write a project for a new backend, and print the commands that build and try it
    New {
        /// The backend's name and type: 1 to 64 of a-z, 0-9, `-`
        #[arg(required_unless_present = "list")]
        name: Option<String>,
        /// List the languages, with what each is built with, and whether that is here
        #[arg(long, conflicts_with_all = ["name", "dir"])]
        list: bool,
        /// The language: rust, go, c, cpp, zig, python or js
        #[arg(long, value_name = "LANGUAGE", default_value = "rust")]
        lang: String,
        /// The directory to make; without it one of the backend's name
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// Build a plugin's project whenever one of its files changes, make the checks of `check --quick`, and show what it declares
    /// otherwise than before; Ctrl-C ends it
    Dev {
        /// The project, as `plugin new` writes it
        directory: PathBuf,
        /// What it is tried with
        #[command(flatten)]
        trial: Trial,
        /// The command that builds it, for a shell in the project; without it ./build.sh, make or npm run build, whichever there is
        #[arg(long, value_name = "COMMAND")]
        build: Option<String>,
        /// The component that is built, in the project; without it the newest one there
        #[arg(long, value_name = "FILE")]
        component: Option<PathBuf>,
        /// As root: run it on two nodes in network namespaces, too, swap it into their daemons after each change, and say what became of a
        /// ping meanwhile. All of it goes when this ends. In both families with --cluster=dual
        #[arg(
            long,
            value_name = "FAMILIES",
            num_args = 0..=1,
            require_equals = true,
            default_missing_value = "ipv4",
            conflicts_with = "node_label"
        )]
        cluster: Option<ClusterFamilies>,
    },
    /// Make a component of a core WebAssembly module that was built with bindings for the contract
    Componentize {
        /// The module
        module: PathBuf,
        /// The component to write
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
        /// The directory with the contract, for a module whose bindings left no metadata in it (Go, Zig)
        #[arg(long, value_name = "DIR")]
        wit: Option<PathBuf>,
        /// The module's world in that directory; without it the only one
        #[arg(long, value_name = "NAME", requires = "wit")]
        world: Option<String>,
        /// Put an adapter below a module that imports wasi_snapshot_preview1
        #[arg(long)]
        adapt: bool,
    },
}

/// Work on the contract, which is a WIT package.
#[derive(Clone, Debug, Subcommand)]
pub enum WitCommand {
    /// Publish a WIT package in an OCI registry, for wkg and whatever else takes packages from there, with the credentials that `docker
    /// login` has left; prints the reference to pin
    Push {
        /// Where to: oci://REGISTRY[:PORT]/REPOSITORY:TAG. wkg finds a package in a repository that ends with NAMESPACE/NAME, under its version
        #[arg(value_name = "REF")]
        to: RegistryReference,
        /// The package: a directory with .wit files, and those that it needs in deps/; without it the contract of this flanneld
        #[arg(long, value_name = "DIR")]
        wit: Option<PathBuf>,
        /// Sign it with this private key: PEM, of PKCS#8 or as cosign encrypts it, with its password in COSIGN_PASSWORD
        #[arg(long, value_name = "KEYFILE")]
        sign: Option<PathBuf>,
    },
}

/// Work on the firewall's rules.
#[derive(Clone, Debug, Subcommand)]
pub enum FirewallCommand {
    /// Remove all rules of flannel's, of iptables and of nftables; a daemon that runs would put its own back
    Remove,
}

/// What to write for Docker, and where: the script's flags.
#[derive(clap::Args, Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a switch on the command line")]
pub struct DockerOpts {
    /// The subnet file
    #[arg(short = 'f', long, value_name = "FILE", default_value = "/run/flannel/subnet.env")]
    pub subnet_file: PathBuf,
    /// The file to write
    #[arg(short = 'd', long, value_name = "FILE", default_value = "/run/docker_opts.env")]
    pub output: PathBuf,
    /// Write each option as a variable of its own; without -c only these
    #[arg(short = 'i', long)]
    pub individual: bool,
    /// Write all options as one variable; without -i only this
    #[arg(short = 'c', long)]
    pub combined: bool,
    /// Leave --ip-masq out
    #[arg(short = 'm', long)]
    pub no_ip_masq: bool,
    /// Name of the variable with all options
    #[arg(short = 'k', long, value_name = "NAME", default_value = "DOCKER_OPTS")]
    pub combined_key: String,
}

/// The definition, with the environment variable of each flag.
pub fn definition() -> clap::Command {
    config::with_variables(environment::with_variables(Cli::command()))
}

/// Reads the command line and the environment. The error is for the operator; it may also be the help that was asked for.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    // First: the definition looks at the variables while it is made.
    environment::forget_empty_variables(&Cli::command());
    let definition = definition();
    let arguments = normalised(&definition, arguments)?;
    let matches = definition.clone().try_get_matches_from(&arguments);
    let matches = matches
        .map_err(|error| environment::name_the_variable(error, &definition, &arguments))
        .map_err(environment::without_passwords)?;
    let mut cli = Cli::from_arg_matches(&matches)?;
    cli.given = environment::given(&definition, &matches);
    let is_given =
        |id: &str| matches.value_source(id).is_some_and(|source| source != ValueSource::DefaultValue);
    settle(&mut cli.options, &definition, is_given)?;
    if let (Some(Command::Config(command)), Some(matches)) = (&mut cli.command, config::matches(&matches)) {
        let is_given =
            |id: &str| matches.value_source(id).is_some_and(|source| source != ValueSource::DefaultValue);
        settle(command.daemon(), &definition, is_given)?;
    }
    Ok(cli)
}

/// What follows from options that were given for those that were not.
fn settle(
    options: &mut Options,
    definition: &clap::Command,
    is_given: impl Fn(&str) -> bool,
) -> Result<(), clap::Error> {
    kubernetes::settle(options, &is_given)
        .map_err(|wrong| definition.clone().error(ErrorKind::ValueValidation, wrong))?;
    own_places::choose(options, &is_given);
    instance::separate(options, &is_given);
    Ok(())
}
