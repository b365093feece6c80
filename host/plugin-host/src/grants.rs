//! What plugins may do: nothing but what they are granted. A component's imports say what it asks for; the built-in plugins'
//! grants are in here, others' are in the operator's file, or are given for one run. Of clouds each operation is granted by itself, and of
//! APIs over HTTP each endpoint.

use std::collections::BTreeSet;
use std::path::PathBuf;

use flannel_cloud::is_label;

use super::artifact::BuiltIn;
use super::digest::Digest;
use super::grant_file::{self, Grant};
use super::imports::INTERFACES;
use super::needs::{CLOUD, Need, Pattern};
use super::signature::{Provenance, TrustedKey};

/// Interfaces that reach nothing outside of the sandbox but the log and the metrics: they need no grant.
const UNRESTRICTED: [&str; 5] = ["types", "log", "clock", "metrics", "peers"];

/// What grants of endpoints begin with; the interface's own name.
const HTTP: &str = "http";
/// What stands where the name of an endpoint is not known: which endpoints there are is the operator's to say.
const ANY_NAME: &str = "http:NAME";

/// What the built-in plugins are granted, by backend type.
const BUILT_IN: [(&str, &[&str]); 13] = [
    ("alloc", &[]),
    (
        "ali-vpc",
        &[
            "state",
            "cloud:alibaba:vpc:DescribeRouteTableList?PageNumber&PageSize&VpcId",
            "cloud:alibaba:vpc:DescribeRouteEntryList?DestinationCidrBlock&MaxResult&NextHopId&NextHopType&NextToken&RouteEntryType&RouteTableId",
            "cloud:alibaba:vpc:CreateRouteEntry?ClientToken&NextHopType=Instance&RouteTableId",
            "cloud:alibaba:vpc:DeleteRouteEntry?RouteEntryId",
        ],
    ),
    (
        "aws-vpc",
        &[
            "cloud:aws:ec2:DescribeNetworkInterfaces?NetworkInterfaceId",
            "cloud:aws:ec2:ModifyNetworkInterfaceAttribute?SourceDestCheck.Value=false",
            "cloud:aws:ec2:DescribeRouteTables?Filter&NextToken&RouteTableId",
            "cloud:aws:ec2:CreateRoute?NetworkInterfaceId&RouteTableId",
            "cloud:aws:ec2:ReplaceRoute?NetworkInterfaceId&RouteTableId",
            "cloud:aws:ec2:DeleteRoute?RouteTableId",
        ],
    ),
    (
        "gce",
        &[
            "state",
            "cloud:google:compute:GET projects/*/zones/*/instances/*",
            "cloud:google:compute:GET projects/*/global/routes/*",
            "cloud:google:compute:GET projects/*/global/routes?filter&pageToken",
            "cloud:google:compute:POST projects/*/global/routes?name&priority&requestId&tags",
            "cloud:google:compute:DELETE projects/*/global/routes/*?requestId",
            "cloud:google:compute:GET projects/*/global/operations/*",
        ],
    ),
    ("extension", &["commands", "state"]),
    ("hetzner", &["http:hetzner"]),
    ("host-gw", &["links", "routes"]),
    ("ipip", &["links", "routes"]),
    ("ipsec", &["links", "ipsec", "own-lease"]),
    (
        "tencent-vpc",
        &[
            "cloud:tencent:vpc:DescribeRouteTables?Filters.0.Name=vpc-id&Filters.0.Values.0&Limit&Offset",
            "cloud:tencent:vpc:CreateRoutes?RouteTableId&Routes.0.GatewayType=NORMAL_CVM",
            "cloud:tencent:vpc:DeleteRoutes?RouteTableId",
        ],
    ),
    ("udp", &["links", "udp-tunnel"]),
    ("vxlan", &["links", "routes", "neighbours", "fdb"]),
    ("wireguard", &["links", "wireguard"]),
];

/// What is wrong with grants.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum GrantError {
    /// The file cannot be read.
    #[error("--plugin-grants {path}: cannot be read: {reason}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The file is no list of grants.
    #[error("--plugin-grants {path}: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
    /// There is no such endpoint.
    #[error(
        "http:{name} is granted, and the file of --http-endpoints has no [endpoint.{name}]; there are: {there}"
    )]
    NoEndpoint {
        /// What is granted.
        name: String,
        /// The endpoints that there are, with commas.
        there: String,
    },
    /// A plugin asks for more than it has.
    #[error(
        "it asks for {wanted}, which it is not granted{signatures}; to grant it, add to the file of --plugin-grants: \
         [[grant]] digest = \"sha256:{digest}\" allow = [{listed}], or for one run: --allow {allow}"
    )]
    Missing {
        /// The interfaces and operations, with commas.
        wanted: String,
        /// The same, quoted for a shell.
        allow: String,
        /// The same, as TOML has it.
        listed: String,
        /// The component's.
        digest: String,
        /// What there is of signatures, and of others who can exchange the file, in parentheses, if grants go by them.
        signatures: String,
    },
}

/// Who asks, and what for.
#[derive(Clone, Copy, Debug)]
pub struct GrantRequest<'a> {
    /// SHA-256 of the component, as hexadecimal digits.
    pub digest: &'a str,
    /// As the plugin calls itself.
    pub name: &'a str,
    /// Who has signed it.
    pub provenance: &'a Provenance,
    /// The interfaces that it imports.
    pub imports: &'a [String],
    /// The operations of clouds that it declares.
    pub needs: &'a [Need],
}

/// Which endpoints a plugin may ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndpointGrants {
    /// All that there are.
    Every,
    /// Those of these names.
    Only(BTreeSet<String>),
}

impl EndpointGrants {
    /// Whether one is among them.
    pub fn has(&self, name: &str) -> bool {
        match self {
            Self::Every => true,
            Self::Only(names) => names.contains(name),
        }
    }

    /// Whether those that are named are among those that there are. The error names the first that is not.
    pub fn check(&self, there: &[String]) -> Result<(), GrantError> {
        let Self::Only(names) = self else { return Ok(()) };
        let missing = names.iter().find(|name| !there.contains(name));
        missing.map_or(Ok(()), |name| {
            let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
            Err(GrantError::NoEndpoint { name: name.clone(), there })
        })
    }
}

impl Default for EndpointGrants {
    fn default() -> Self {
        Self::Only(BTreeSet::new())
    }
}

/// What a plugin has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Granted {
    /// Interfaces.
    pub interfaces: BTreeSet<String>,
    /// Operations of clouds.
    pub operations: Vec<Pattern>,
    /// Endpoints.
    pub endpoints: EndpointGrants,
}

impl Granted {
    /// Whether an operation is among them, with the parameters that it names.
    pub fn has(&self, need: &Need) -> bool {
        self.operations.iter().any(|pattern| pattern.serves(&need.pattern))
    }

    /// What somebody asks for and has not, as grants have it.
    pub fn missing(&self, asker: &GrantRequest) -> Vec<String> {
        let mut missing: Vec<String> =
            asker.imports.iter().filter(|import| needs_grant(import)).cloned().collect();
        missing.retain(|import| !self.interfaces.contains(import));
        let operations = asker.needs.iter().filter(|need| !self.has(need));
        let operations: Vec<String> = operations.map(|need| need.pattern.to_string()).collect();
        if !operations.is_empty() {
            // Who has one of them has the interface.
            missing.retain(|import| import != CLOUD);
        }
        // Which endpoint it asks for, it says when it asks.
        for import in &mut missing {
            if import == HTTP {
                ANY_NAME.clone_into(import);
            }
        }
        missing.sort_unstable();
        missing.extend(operations);
        missing
    }
}

/// All that is granted. The file is read anew for each plugin, so that what an operator adds counts for the next swap.
#[derive(Clone, Debug, Default)]
pub struct Grants {
    file: Option<PathBuf>,
    allow: Vec<String>,
    built_in: &'static [BuiltIn],
    everything: bool,
}

impl Grants {
    /// The built-in plugins' grants, those in the file, and those for this run, to any plugin.
    pub fn new(file: Option<PathBuf>, allow: Vec<String>, built_in: &'static [BuiltIn]) -> Self {
        Self { file, allow, built_in, everything: false }
    }

    /// Everything that is asked for, to everybody: for a sandbox that has no node to do harm to.
    pub fn everything() -> Self {
        Self { everything: true, ..Self::default() }
    }

    /// Whether a plugin has all that it asks for; answers with all that it has. The error says what is missing, and how to grant it.
    pub fn check(&self, asker: &GrantRequest) -> Result<Granted, GrantError> {
        let granted = self.of(asker)?;
        missing_is_error(&granted.missing(asker), asker)?;
        Ok(granted)
    }

    /// Whether a component could have what it imports, whatever it is going to call itself: it has to be compiled to say that. Of clouds
    /// it says only then what it asks for, so that they are left for later.
    pub(crate) fn might_have(
        &self,
        digest: &str,
        imports: &[String],
        provenance: &Provenance,
    ) -> Result<(), GrantError> {
        let asker = GrantRequest { digest, name: "", imports, needs: &[], provenance };
        let mut granted = self.sorted(self.texts(&asker, |grant| grant.could_be_for(&asker))?);
        granted.interfaces.insert(CLOUD.to_owned());
        missing_is_error(&granted.missing(&asker), &asker)
    }

    /// The keys that grants go by: what is loaded is to be looked at for signatures by them.
    pub fn trusted_keys(&self) -> Result<Vec<TrustedKey>, GrantError> {
        self.file.as_deref().map_or(Ok(Vec::new()), |path| Ok(grant_file::read(path)?.keys))
    }

    /// What is to be said of grants that a plugin has: those that anybody's plugin would have under that name, or in that place.
    pub fn doubts(&self, asker: &GrantRequest) -> Vec<String> {
        let mut doubts = self.doubts_of_names(asker);
        let is_known = self.everything || self.built_in_with(asker.digest).is_some();
        if let Some(why) = asker.provenance.exchangeable.as_ref().filter(|_| !is_known) {
            doubts.push(format!("others can exchange the plugin's file, and what is next in it has its store and what --allow grants: {why}"));
        }
        doubts
    }

    fn doubts_of_names(&self, asker: &GrantRequest) -> Vec<String> {
        // Without the file, or with a wrong one, nothing was granted by it.
        let Some((path, file)) =
            self.file.as_deref().and_then(|path| Some((path, grant_file::read(path).ok()?)))
        else {
            return Vec::new();
        };
        let by_name = file
            .grants
            .iter()
            .enumerate()
            .filter(|(_, grant)| grant.is_by_name_alone() && grant.is_for(asker));
        let doubt = |(at, _)| {
            format!(
                "--plugin-grants {}: grant {} is for whatever calls itself {:?}: put a signer beside the name, or digest = \"sha256:{}\"",
                path.display(),
                at + 1,
                asker.name,
                asker.digest
            )
        };
        by_name.map(doubt).collect()
    }

    /// What a plugin is granted, beyond what needs no grant.
    pub fn of(&self, asker: &GrantRequest) -> Result<Granted, GrantError> {
        let mut granted = self.sorted(self.texts(asker, |grant| grant.is_for(asker))?);
        if self.everything {
            granted.operations.extend(asker.needs.iter().map(|need| need.pattern.clone()));
        }
        Ok(granted)
    }

    /// Grants by their kinds.
    fn sorted(&self, texts: BTreeSet<String>) -> Granted {
        let (mut granted, mut names) = (Granted::default(), BTreeSet::new());
        for text in texts {
            if let Some(name) = granted_endpoint(&text) {
                names.insert(name.to_owned());
                granted.interfaces.insert(HTTP.to_owned());
            } else if is_operation(&text) {
                // It was read once already.
                granted.operations.extend(Pattern::parse(&text));
                granted.interfaces.insert(CLOUD.to_owned());
            } else {
                granted.interfaces.insert(text);
            }
        }
        granted.endpoints = if self.everything { EndpointGrants::Every } else { EndpointGrants::Only(names) };
        granted
    }

    /// What is granted to who asks, by those grants of the file that are for it.
    fn texts(
        &self,
        asker: &GrantRequest,
        is_for: impl Fn(&Grant) -> bool,
    ) -> Result<BTreeSet<String>, GrantError> {
        let mut granted: BTreeSet<String> = self.allow.iter().cloned().collect();
        if self.everything {
            granted.extend(INTERFACES.iter().filter(|name| needs_grant(name)).map(|name| (*name).to_owned()));
        }
        if let Some(backend_type) = self.built_in_with(asker.digest) {
            granted.extend(built_in(backend_type).iter().map(|interface| (*interface).to_owned()));
        }
        if let Some(path) = &self.file {
            let all = grant_file::read(path)?.grants;
            granted.extend(all.into_iter().filter(is_for).flat_map(|grant| grant.allow));
        }
        Ok(granted)
    }

    /// The backend type of the built-in plugin that is the same component, if there is one.
    fn built_in_with(&self, digest_of: &str) -> Option<&'static str> {
        let same = |plugin: &&BuiltIn| Digest::of(plugin.component).hex() == digest_of;
        self.built_in.iter().find(same).map(|plugin| plugin.backend_type)
    }
}

fn missing_is_error(missing: &[String], asker: &GrantRequest) -> Result<(), GrantError> {
    if missing.is_empty() {
        return Ok(());
    }
    let quoted: Vec<String> = missing.iter().map(|wanted| format!("{wanted:?}")).collect();
    let flag = missing.join(",");
    let mut reasons: Vec<String> = asker.provenance.signatures().into_iter().collect();
    if missing.iter().any(|wanted| wanted == ANY_NAME) {
        reasons.push("NAME is that of an endpoint in the file of --http-endpoints".to_owned());
    }
    if let Some(why) = &asker.provenance.exchangeable {
        reasons
            .push(format!("no grant is for it by its name alone, since others can exchange its file: {why}"));
    }
    Err(GrantError::Missing {
        allow: if flag.contains([' ', '?', '&', '*']) { format!("'{flag}'") } else { flag.clone() },
        wanted: flag,
        listed: quoted.join(", "),
        digest: asker.digest.to_owned(),
        signatures: if reasons.is_empty() { String::new() } else { format!(" ({})", reasons.join("; ")) },
    })
}

/// What the built-in plugin for a backend type is granted.
pub(super) fn built_in(backend_type: &str) -> &'static [&'static str] {
    BUILT_IN.iter().find(|(of, _)| *of == backend_type).map_or(&[], |(_, allowed)| allowed)
}

/// Whether an interface reaches something that a plugin must be granted.
pub fn needs_grant(interface: &str) -> bool {
    INTERFACES.contains(&interface) && !UNRESTRICTED.contains(&interface)
}

fn is_operation(text: &str) -> bool {
    text.strip_prefix(CLOUD).is_some_and(|rest| rest.starts_with(':'))
}

/// The endpoint that a grant is for; none: it is for something else.
pub fn granted_endpoint(text: &str) -> Option<&str> {
    text.strip_prefix(HTTP)?.strip_prefix(':')
}

/// One interface that can be granted, an operation of a cloud, or an endpoint; the error says which can.
pub fn parse_grant(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text == HTTP || granted_endpoint(text).is_some_and(|name| !is_label(name)) {
        return Err(format!(
            "{text:?}: right would be {ANY_NAME}, with the name of an endpoint in the file of --http-endpoints: 1 to 63 of a-z, 0-9 and `-`"
        ));
    }
    if granted_endpoint(text).is_some() {
        return Ok(text.to_owned());
    }
    if is_operation(text) {
        return Pattern::parse(text).map(|pattern| pattern.to_string());
    }
    if needs_grant(text) {
        return Ok(text.to_owned());
    }
    let named = |name| if name == HTTP { ANY_NAME } else { name };
    let there: Vec<&str> = INTERFACES.into_iter().filter(|name| needs_grant(name)).map(named).collect();
    Err(format!("{text:?} cannot be granted; there are {}", there.join(", ")))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const DIGEST: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn imports(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn check(grants: &Grants, digest: &str, name: &str, imports: &[String]) -> Result<(), GrantError> {
        grants
            .check(&GrantRequest { digest, name, provenance: &Provenance::default(), imports, needs: &[] })
            .map(drop)
    }

    fn need(text: &str) -> Need {
        Need { pattern: Pattern::parse(text).expect("a pattern"), permissions: Vec::new() }
    }

    #[test]
    fn operations_of_clouds_are_granted_each_by_itself() {
        let needs =
            [need("cloud:aws:ec2:CreateRoute"), need("cloud:google:compute:GET projects/*/global/routes/*")];
        let imports = imports(&["log", "cloud"]);
        let provenance = Provenance::default();
        let asker = GrantRequest {
            digest: DIGEST,
            name: "p",
            provenance: &provenance,
            imports: &imports,
            needs: &needs,
        };
        let mut grants = Grants { allow: vec!["cloud:aws:ec2:*".to_owned()], ..Grants::default() };
        let error = grants.check(&asker).expect_err("refused").to_string();
        assert!(
            error.contains("it asks for cloud:google:compute:GET projects/*/global/routes/*, "),
            "{error}"
        );
        assert!(error.contains("--allow 'cloud:google:compute:GET projects/*/global/routes/*'"), "{error}");
        grants.allow.push("cloud:google:compute:*".to_owned());
        let granted = grants.check(&asker).expect("granted");
        let granted: Vec<String> = granted.operations.iter().map(Pattern::to_string).collect();
        assert_eq!(granted, ["cloud:aws:ec2:*", "cloud:google:compute:*"]);
    }

    #[test]
    fn of_apis_over_http_each_endpoint_is_granted_by_itself() {
        let imports = imports(&["log", "http"]);
        let provenance = Provenance::default();
        let asker = GrantRequest {
            digest: DIGEST,
            name: "p",
            provenance: &provenance,
            imports: &imports,
            needs: &[],
        };
        let mut grants = Grants::default();
        let error = grants.check(&asker).expect_err("refused").to_string();
        assert!(error.contains("it asks for http:NAME, which it is not granted (NAME is that of"), "{error}");
        assert!(error.contains("allow = [\"http:NAME\"]"), "{error}");
        grants.allow = vec![parse_grant("http:hetzner").expect("a grant")];
        let granted = grants.check(&asker).expect("granted").endpoints;
        assert!(granted.has("hetzner") && !granted.has("router"));
        assert_eq!(granted.check(&["hetzner".to_owned()]), Ok(()));
        let error = granted.check(&["router".to_owned()]).expect_err("not there").to_string();
        assert!(error.contains("no [endpoint.hetzner]; there are: router"), "{error}");
        for wrong in ["http", "http:", "http:NAME", "http:a b", "http:a/b", "https:a"] {
            let error = parse_grant(wrong).expect_err("refused");
            assert!(error.contains("http:NAME"), "{wrong}: {error}");
        }
        assert!(Grants::everything().check(&asker).expect("granted").endpoints.has("any"));
    }

    fn file(text: &str) -> (tempfile::TempDir, Grants) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("grants.toml");
        std::fs::write(&path, text).expect("written");
        // Whatever the umask is.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("mode");
        (directory, Grants::new(Some(path), Vec::new(), &[]))
    }

    #[test]
    fn nothing_is_granted_by_itself_but_what_reaches_nothing() {
        let none = Grants::default();
        assert_eq!(check(&none, DIGEST, "p", &imports(&["types", "log", "clock"])), Ok(()));
        let error = check(&none, DIGEST, "p", &imports(&["log", "links", "routes"])).expect_err("refused");
        let text = error.to_string();
        assert!(text.contains("--allow links,routes"), "{text}");
        assert!(
            text.contains(&format!("digest = \"sha256:{DIGEST}\" allow = [\"links\", \"routes\"]")),
            "{text}"
        );
    }

    #[test]
    fn grants_are_by_digest_by_name_and_for_one_run() {
        let text = format!(
            "[[grant]]\ndigest = \"sha256:{DIGEST}\"\nallow = [\"links\"]\n[[grant]]\nname = \"p\"\nallow = [\"routes\"]\n"
        );
        let (_directory, mut grants) = file(&text);
        let wanted = imports(&["links", "routes"]);
        assert_eq!(check(&grants, DIGEST, "p", &wanted), Ok(()));
        for (digest, name, missing) in [(DIGEST, "q", "routes"), (&DIGEST.replace('0', "1"), "p", "links")] {
            let error = check(&grants, digest, name, &wanted).expect_err("refused").to_string();
            assert!(error.contains(&format!("it asks for {missing}, ")), "{error}");
        }
        grants.allow = wanted.clone();
        assert_eq!(check(&grants, "", "", &wanted), Ok(()));
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_with_its_place() {
        for (text, said) in [
            (
                "[[grant]]\nname = \"p\"\nallow = [\"everything\"]",
                "grant 1: allow: \"everything\" cannot be granted; there are links, ",
            ),
            ("[[grant]]\nname = \"p\"\n\nalow = []", "line 4: unknown field `alow`"),
            (
                "[[grant]]\nallow = []",
                "grant 1: it says for which plugins it is by none of digest, name, signer and key",
            ),
            ("[[grant]]\ndigest = \"md5:1\"\nallow = []", "grant 1: digest = \"md5:1\" is not sha256:"),
            ("[[grant]", "line 1: "),
        ] {
            let (_directory, grants) = file(text);
            let error = check(&grants, DIGEST, "p", &[]).expect_err("refused").to_string();
            assert!(error.contains(said) && error.lines().count() == 1, "{error}");
        }
        let nowhere = Grants::new(Some("/nowhere/grants.toml".into()), Vec::new(), &[]);
        let error = check(&nowhere, DIGEST, "p", &[]).expect_err("refused").to_string();
        assert!(error.starts_with("--plugin-grants /nowhere/grants.toml: cannot be read: "), "{error}");
    }

    #[test]
    fn a_component_that_is_built_in_has_the_built_in_plugins_grants_wherever_it_comes_from() {
        const BUILT: &[BuiltIn] =
            &[BuiltIn { backend_type: "host-gw", component: b"a component", compiled: None }];
        let grants = Grants::new(None, Vec::new(), BUILT);
        let same = Digest::of(b"a component").hex();
        assert_eq!(check(&grants, &same, "x", &imports(&["links", "routes"])), Ok(()));
        assert!(check(&grants, &same, "x", &imports(&["fdb"])).is_err());
        assert!(check(&grants, DIGEST, "host-gw", &imports(&["links"])).is_err(), "a name proves nothing");
    }
}
