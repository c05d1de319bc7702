use super::*;
use crate::dockerfile::{Mount, MountKind, Network, Security, Sharing};
use crate::graph::{Base, ContextId, RunMount};
use crate::mode::Chmod;
use skycap_image::{MediaType, Memory};

#[test]
fn values_cannot_flow_into_each_other() {
    let key = |values: &[&str]| {
        let mut encoder = Encoder::new("test");
        for value in values {
            encoder.text(value);
        }
        encoder.finish()
    };
    assert_ne!(key(&["ab", "c"]), key(&["a", "bc"]));
    assert_ne!(key(&["a", ""]), key(&["a"]));
    assert_ne!(Encoder::new("a").option(None).finish(), Encoder::new("a").option(Some("")).finish());
}

/// A graph of two bases and one more node, and what else its key is made of.
struct Case {
    bases: [&'static str; 2],
    base_platform: Platform,
    node: Node,
    context: Digest,
    keep_file_times: bool,
}

impl Case {
    fn of(operation: impl FnOnce([NodeId; 2]) -> Operation) -> Self {
        let mut graph = Graph::default();
        let ids = [(); 2].map(|()| graph.add(node(Operation::Base(Base::default()))));
        Self {
            bases: ["one", "two"],
            base_platform: amd64(),
            node: node(operation(ids)),
            context: Digest::sha256(b"context"),
            keep_file_times: false,
        }
    }

    fn key(self) -> Digest {
        let mut graph = Graph::default();
        for name in self.bases {
            graph.add(Node { platform: self.base_platform.clone(), ..node(Operation::Base(layer(name))) });
        }
        let id = graph.add(self.node);
        *keys(&graph, &BTreeMap::from([(id, self.context)]), self.keep_file_times).last().unwrap()
    }

    fn run(&mut self) -> &mut Run {
        let Operation::Run(run) = &mut self.node.operation else { panic!("a RUN") };
        run
    }

    fn copy(&mut self) -> &mut Copy {
        let Operation::Copy(copy) = &mut self.node.operation else { panic!("a COPY") };
        copy
    }

    fn workdir(&mut self) -> &mut Workdir {
        let Operation::Workdir(workdir) = &mut self.node.operation else { panic!("a WORKDIR") };
        workdir
    }

    fn mount(&mut self) -> &mut RunMount {
        &mut self.run().mounts[0]
    }
}

fn amd64() -> Platform {
    "linux/amd64".parse().unwrap()
}

fn arm64() -> Platform {
    "linux/arm64".parse().unwrap()
}

fn node(operation: Operation) -> Node {
    Node { operation, line: 1, label: "label".to_owned(), platform: amd64() }
}

fn layer(text: &str) -> Base {
    let memory = Memory::default();
    let descriptor = memory.add(MediaType::OciLayer, text.as_bytes().to_vec());
    let layer = Layer { diff_id: descriptor.digest, descriptor, blobs: std::sync::Arc::new(memory) };
    Base { layers: vec![layer], is_remote: false, material: None }
}

fn text(text: &str) -> String {
    text.to_owned()
}

fn pair(name: &str, value: &str) -> (String, String) {
    (text(name), text(value))
}

fn run() -> Case {
    Case::of(|[parent, _]| {
        Operation::Run(Run {
            parent,
            args: vec![text("/bin/sh"), text("-c"), text("make")],
            script: None,
            env: vec![pair("A", "1")],
            hidden_env: Vec::new(),
            cwd: text("/"),
            user: String::new(),
            mounts: Vec::new(),
            network: Network::Default,
            security: Security::Sandbox,
            hostname: None,
            add_hosts: Vec::new(),
        })
    })
}

fn mounted(kind: MountKind) -> Case {
    let mut case = run();
    let mount = Mount {
        kind,
        from: None,
        source: None,
        target: None,
        read_only: true,
        id: None,
        sharing: None,
        required: false,
        size: None,
        mode: None,
        uid: None,
        gid: None,
        env: None,
    };
    case.run().mounts.push(RunMount { mount, target: text("/m"), from: outside() });
    case
}

fn outside() -> From {
    From::Context(ContextId::MAIN)
}

fn copy() -> Case {
    Case::of(|[parent, _]| {
        Operation::Copy(Copy {
            parent,
            sources: vec![Source::plain(outside(), "a")],
            documents: Vec::new(),
            destination: text("/d"),
            into_directory: false,
            chown: None,
            chmod: None,
            exclude: Vec::new(),
            link: false,
            parents: false,
        })
    })
}

fn linked() -> Case {
    let mut case = copy();
    case.copy().link = true;
    case.copy().chown = Some(text("1:2"));
    case
}

fn workdir() -> Case {
    Case::of(|[parent, _]| Operation::Workdir(Workdir { parent, path: text("/w"), user: String::new() }))
}

const COUNTS: bool = true;
const DOES_NOT: bool = false;

/// What is changed, whether that makes another key, and the change.
type Row = (&'static str, bool, fn(&mut Case));

/// Makes a case, always the same.
type Make = fn() -> Case;

fn check(what: &str, case: Make, rows: &[Row]) {
    let before = case().key();
    assert_eq!(before, case().key(), "{what}: the same twice");
    for (field, counts, change) in rows {
        let mut changed = case();
        change(&mut changed);
        assert_eq!(changed.key() != before, *counts, "{what}: {field}");
    }
}

/// What a step is made from; true of every operation that has a parent.
const SURROUNDINGS: &[Row] = &[
    ("the parent's layers", COUNTS, |case| case.bases[0] = "another"),
    ("the parent's platform", COUNTS, |case| case.base_platform = arm64()),
    ("layers of what is not read", DOES_NOT, |case| case.bases[1] = "another"),
    ("line", DOES_NOT, |case| case.node.line = 9),
    ("label", DOES_NOT, |case| case.node.label = text("another")),
];

#[test]
fn what_counts_of_a_run() {
    check("RUN", run, SURROUNDINGS);
    let rows: &[Row] = &[
        ("platform", COUNTS, |case| case.node.platform = arm64()),
        ("args", COUNTS, |case| case.run().args[2] = text("make all")),
        ("args as other words", COUNTS, |case| case.run().args = vec![text("/bin/sh"), text("-c make")]),
        ("script", COUNTS, |case| case.run().script = Some(pair("/dev/pipes/EOF", "a"))),
        ("env value", COUNTS, |case| case.run().env[0].1 = text("2")),
        ("env name", COUNTS, |case| case.run().env[0].0 = text("B")),
        ("env more", COUNTS, |case| case.run().env.push(pair("B", "2"))),
        ("proxies", DOES_NOT, |case| case.run().hidden_env.push(pair("HTTP_PROXY", "http://proxy"))),
        ("cwd", COUNTS, |case| case.run().cwd = text("/srv")),
        ("user", COUNTS, |case| case.run().user = text("app:app")),
        ("network none", COUNTS, |case| case.run().network = Network::None),
        ("network host", COUNTS, |case| case.run().network = Network::Host),
        ("security", COUNTS, |case| case.run().security = Security::Insecure),
        ("hostname", COUNTS, |case| case.run().hostname = Some(text("builder"))),
        ("a host", COUNTS, |case| case.run().add_hosts.push((text("db"), [127, 0, 0, 1].into()))),
        ("a mount", COUNTS, |case| case.run().mounts = mounted(MountKind::Tmpfs).run().mounts.drain(..).collect()),
        ("the context without a mount of it", DOES_NOT, |case| case.context = Digest::sha256(b"another")),
        ("--keep-file-times", DOES_NOT, |case| case.keep_file_times = true),
    ];
    check("RUN", run, rows);
    let hosted = || {
        let mut case = run();
        case.run().add_hosts.push((text("db"), [127, 0, 0, 1].into()));
        case
    };
    check(
        "RUN with a host",
        hosted,
        &[
            ("its name", COUNTS, |case| case.run().add_hosts[0].0 = text("web")),
            ("its address", DOES_NOT, |case| case.run().add_hosts[0].1 = [10, 0, 0, 1].into()),
        ],
    );
}

#[test]
fn what_counts_of_a_mount() {
    // Everything that the instruction says, of every kind.
    let rows: &[Row] = &[
        ("target", COUNTS, |case| case.mount().target = text("/n")),
        ("source", COUNTS, |case| case.mount().mount.source = Some(text("s"))),
        ("read_only", COUNTS, |case| case.mount().mount.read_only = false),
        ("sharing", DOES_NOT, |case| case.mount().mount.sharing = Some(Sharing::Locked)),
        ("required", COUNTS, |case| case.mount().mount.required = true),
        ("size", COUNTS, |case| case.mount().mount.size = Some(1 << 20)),
        ("mode", COUNTS, |case| case.mount().mount.mode = Some(0o700)),
        ("uid", COUNTS, |case| case.mount().mount.uid = Some(0)),
        ("gid", COUNTS, |case| case.mount().mount.gid = Some(0)),
        ("env", COUNTS, |case| case.mount().mount.env = Some(text("TOKEN"))),
        ("another mount", COUNTS, |case| {
            let mut more = mounted(MountKind::Tmpfs);
            case.run().mounts.append(&mut more.run().mounts);
        }),
        // As written; what they mean is in `target` and `from` of the node.
        ("target as written", DOES_NOT, |case| case.mount().mount.target = Some(text("m"))),
        ("from as written", DOES_NOT, |case| case.mount().mount.from = Some(text("stage"))),
    ];
    let kinds: [(&str, Make); 5] = [
        ("bind", || mounted(MountKind::Bind)),
        ("cache", || mounted(MountKind::Cache)),
        ("tmpfs", || mounted(MountKind::Tmpfs)),
        ("secret", || mounted(MountKind::Secret)),
        ("ssh", || mounted(MountKind::Ssh)),
    ];
    for (name, case) in kinds {
        check(name, case, rows);
        for (other, another) in kinds {
            assert_eq!(case().key() == another().key(), name == other, "{name} and {other}");
        }
    }
    for (counts, kind) in [(COUNTS, MountKind::Secret), (COUNTS, MountKind::Ssh), (DOES_NOT, MountKind::Cache)] {
        let one = mounted(kind).key();
        let mut other = mounted(kind);
        other.mount().mount.id = Some(text("one"));
        assert_eq!(one != other.key(), counts, "the id of {kind:?}");
    }
    let one = || {
        let mut case = mounted(MountKind::Secret);
        case.mount().mount.id = Some(text("one"));
        case
    };
    check("a secret", one, &[("id", COUNTS, |case| case.mount().mount.id = Some(text("two")))]);
    let context: &[Row] = &[
        ("files of the context", COUNTS, |case| case.context = Digest::sha256(b"another")),
        ("from", COUNTS, |case| case.mount().from = second()),
    ];
    check("bind", || mounted(MountKind::Bind), context);
    let of_stage = || {
        let mut case = mounted(MountKind::Bind);
        case.mount().from = second();
        case
    };
    let stage: &[Row] = &[
        ("layers of the stage", COUNTS, |case| case.bases[1] = "another"),
        ("files of the context", DOES_NOT, |case| case.context = Digest::sha256(b"another")),
    ];
    check("bind from a stage", of_stage, stage);
}

/// The second base of every case.
fn second() -> From {
    let mut graph = Graph::default();
    graph.add(node(Operation::Base(Base::default())));
    From::Node(graph.add(node(Operation::Base(Base::default()))))
}

#[test]
fn what_counts_of_a_copy() {
    let rows: &[Row] = &[
        ("platform", DOES_NOT, |case| case.node.platform = arm64()),
        ("from", COUNTS, |case| case.copy().sources[0].from = second()),
        ("files of the context", COUNTS, |case| case.context = Digest::sha256(b"another")),
        ("sources", COUNTS, |case| case.copy().sources.push(Source::plain(outside(), "b"))),
        ("document", COUNTS, |case| case.copy().documents.push(pair("EOF", "a"))),
        ("destination", COUNTS, |case| case.copy().destination = text("/e")),
        ("into_directory", COUNTS, |case| case.copy().into_directory = true),
        ("chown", COUNTS, |case| case.copy().chown = Some(text("1"))),
        ("chmod", COUNTS, |case| case.copy().chmod = Some(Chmod::parse("755").unwrap())),
        ("exclude", COUNTS, |case| case.copy().exclude.push(text("*.o"))),
        ("unpack", COUNTS, |case| case.copy().sources[0].unpack = true),
        ("exact", COUNTS, |case| case.copy().sources[0].is_exact = true),
        ("link", COUNTS, |case| case.copy().link = true),
        ("parents", COUNTS, |case| case.copy().parents = true),
        ("keep_file_times", COUNTS, |case| case.keep_file_times = true),
    ];
    check("COPY", copy, SURROUNDINGS);
    check("COPY", copy, rows);
    let of_stage = || {
        let mut case = copy();
        case.copy().sources[0].from = second();
        case
    };
    let stage: &[Row] = &[
        ("layers of the stage", COUNTS, |case| case.bases[1] = "another"),
        ("files of the context", DOES_NOT, |case| case.context = Digest::sha256(b"another")),
        ("keep_file_times", DOES_NOT, |case| case.keep_file_times = true),
    ];
    check("COPY --from", of_stage, stage);
    let free: &[Row] = &[
        ("the parent's layers", DOES_NOT, |case| case.bases[0] = "another"),
        ("the parent's platform", DOES_NOT, |case| case.base_platform = arm64()),
        ("chown", COUNTS, |case| case.copy().chown = Some(text("2:2"))),
    ];
    check("COPY --link", linked, free);
    let named = || {
        let mut case = linked();
        case.copy().chown = Some(text("app"));
        case
    };
    check(
        "COPY --link with a name to look up",
        named,
        &[("the parent's layers", COUNTS, |case| case.bases[0] = "another")],
    );
}

#[test]
fn what_counts_of_a_workdir() {
    check("WORKDIR", workdir, SURROUNDINGS);
    let rows: &[Row] = &[
        ("path", COUNTS, |case| case.workdir().path = text("/v")),
        ("user", COUNTS, |case| case.workdir().user = text("app")),
    ];
    check("WORKDIR", workdir, rows);
}
