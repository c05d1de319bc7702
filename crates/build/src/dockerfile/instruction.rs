//! What a Dockerfile says, as data.
//!
//! Text is kept unexpanded: what a variable is worth is only known while the stages are walked, so the words of
//! [`struct@Copy`], [`Arg`] and the others still hold their quotes and dollars and go through
//! [`expand`](super::expand()) then. Which words expand is written at each field.

use std::collections::BTreeMap;

use super::mount::MountFlag;
use super::span::Spanned;

/// A whole Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dockerfile {
    /// The name that errors carry.
    pub name: String,
    /// The special comments at the top.
    pub directives: Directives,
    /// `ARG` before the first `FROM`: visible in `FROM` lines, and as the value of a bare `ARG name` in a stage.
    pub global_args: Vec<Spanned<Vec<Arg>>>,
    /// At least one.
    pub stages: Vec<Stage>,
    /// What only a reader of the text sees.
    pub notes: Notes,
}

/// What stands in a Dockerfile and means nothing to a build.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Notes {
    /// The text, line by line, without the ends.
    pub lines: Vec<String>,
    /// The comments right above an instruction, by the line where it begins, without `#`.
    pub comments: BTreeMap<usize, Vec<String>>,
    /// Instructions with empty lines between their continued lines: the first and the last line of each, without
    /// heredocs.
    pub empty_continuations: Vec<(usize, usize)>,
}

/// The special comments at the top of a Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directives {
    /// The escape and continuation character: a backslash, or a backtick.
    pub escape: char,
    /// The image of a frontend that the author asked for.
    pub syntax: Option<Spanned<String>>,
    /// Options for the linter.
    pub check: Option<Spanned<String>>,
}

/// One `FROM` and what follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// Where it starts from.
    pub from: Spanned<From>,
    /// In the order of the file.
    pub instructions: Vec<Spanned<Instruction>>,
}

/// `FROM [--platform=P] IMAGE [AS NAME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct From {
    /// An image, an earlier stage or `scratch`. Expands, with global arguments only.
    pub image: String,
    /// `--platform`. Expands, with global arguments only.
    pub platform: Option<Spanned<String>>,
    /// The stage's own name, in lower case.
    pub name: Option<String>,
}

/// An instruction of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instruction {
    /// `ADD`
    Add(Add),
    /// `ARG`, one or more.
    Arg(Vec<Arg>),
    /// `CMD`. Does not expand.
    Cmd(Command),
    /// `COPY`
    Copy(Copy),
    /// `ENTRYPOINT`. Does not expand.
    Entrypoint(Command),
    /// `ENV`. Keys and values expand, all of them with the environment as it was before the instruction.
    Env(Pairs),
    /// `EXPOSE`: words, sorted. Each expands to any number of words.
    Expose(Vec<String>),
    /// `HEALTHCHECK`. Does not expand.
    Healthcheck(Healthcheck),
    /// `LABEL`. Keys and values expand.
    Label(Pairs),
    /// `MAINTAINER`. Does not expand.
    Maintainer(String),
    /// `ONBUILD`: the text of the trigger, heredocs and all. It is an instruction that parses;
    /// [`parse_trigger`](super::parse_trigger) reads it again when a child starts from the image.
    Onbuild(String),
    /// `RUN`
    Run(Run),
    /// `SHELL`, at least one word. Does not expand.
    Shell(Vec<String>),
    /// `STOPSIGNAL`. Expands.
    StopSignal(String),
    /// `USER`. Expands.
    User(String),
    /// `VOLUME`, at least one. Each expands, to one word.
    Volume(Vec<String>),
    /// `WORKDIR`. Expands.
    Workdir(String),
}

/// The keys and values of `ENV` or `LABEL`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pairs {
    /// In the order of the file, at least one.
    pub pairs: Vec<(String, String)>,
    /// Whether it was the old form `ENV key value`, which has one pair.
    pub legacy: bool,
}

/// A command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// One string for the shell that `SHELL` names.
    Shell(String),
    /// A JSON array: run as it is. May be empty.
    Exec(Vec<String>),
}

/// `RUN`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// `--mount`, in the order of the file.
    pub mounts: Vec<Spanned<MountFlag>>,
    /// `--network`
    pub network: Option<Spanned<Network>>,
    /// `--security`
    pub security: Option<Spanned<Security>>,
    /// The first line. Does not expand. With heredocs, [`Run::script`] says what to run.
    pub command: Command,
    /// The bodies that follow the line, in its order.
    pub heredocs: Vec<Heredoc>,
}

/// What a `RUN` runs when heredocs have been taken into account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Script {
    /// One string for the shell that `SHELL` names.
    Shell(String),
    /// Run as it is.
    Exec(Vec<String>),
    /// A file that is there for this command alone, as `/dev/pipes/<name>` with mode 0755, and is run.
    File {
        /// The heredoc's word.
        name: String,
        /// Begins with `#!`.
        content: String,
    },
}

/// `RUN --network`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    /// What the build has.
    Default,
    /// Only a loopback device.
    None,
    /// The network of the machine.
    Host,
}

/// `RUN --security`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Security {
    /// What the build has.
    Sandbox,
    /// All rights.
    Insecure,
}

/// `COPY`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// `--from`: a stage by name or number, an image or a named context. Does not expand.
    pub from: Option<Spanned<String>>,
    /// `--chown`. Expands.
    pub chown: Option<Spanned<String>>,
    /// `--chmod`: octal or symbolic. Expands.
    pub chmod: Option<Spanned<String>>,
    /// `--link`
    pub link: Option<Spanned<bool>>,
    /// `--parents`
    pub parents: Option<Spanned<bool>>,
    /// `--exclude`, repeatable. Does not expand.
    pub exclude: Vec<Spanned<String>>,
    /// Paths in the build context or in `from`. Each expands, to one word.
    pub sources: Vec<String>,
    /// Sources that are written out in the Dockerfile.
    pub documents: Vec<Document>,
    /// Expands.
    pub destination: String,
}

/// `ADD`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Add {
    /// `--chown`. Expands.
    pub chown: Option<Spanned<String>>,
    /// `--chmod`: octal or symbolic. Expands.
    pub chmod: Option<Spanned<String>>,
    /// `--link`
    pub link: Option<Spanned<bool>>,
    /// `--exclude`, repeatable. Does not expand.
    pub exclude: Vec<Spanned<String>>,
    /// `--checksum`. Expands.
    pub checksum: Option<Spanned<String>>,
    /// `--keep-git-dir`
    pub keep_git_dir: Option<Spanned<bool>>,
    /// `--unpack`
    pub unpack: Option<Spanned<bool>>,
    /// Paths, URLs or git references. Each expands, to one word.
    pub sources: Vec<String>,
    /// Sources that are written out in the Dockerfile.
    pub documents: Vec<Document>,
    /// Expands.
    pub destination: String,
}

/// A file that `COPY` or `ADD` takes from a heredoc.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// The heredoc's word, which is the file's name.
    pub name: String,
    /// Leading tabs are gone if it was `<<-`.
    pub content: String,
    /// Whether the content expands: the word had no quotes. Quotes in the content stay
    /// ([`Expander::keeping_quotes`](super::Expander::keeping_quotes)).
    pub expands: bool,
}

/// A heredoc as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// The word that ends it, without quotes.
    pub name: String,
    /// The number before `<<`, 0 if there is none.
    pub descriptor: u32,
    /// Whether the word had no quotes.
    pub expands: bool,
    /// Whether it was `<<-`.
    pub strips_tabs: bool,
    /// The lines as they stand in the file, tabs and all, each with its end.
    pub content: String,
}

/// One name of an `ARG`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arg {
    /// Expands in a stage, not before the first `FROM`.
    pub name: String,
    /// Expands.
    pub default: Option<String>,
}

/// `HEALTHCHECK`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Healthcheck {
    /// `HEALTHCHECK NONE`: turns off what the base has.
    None,
    /// `HEALTHCHECK CMD`
    Check {
        /// Not empty.
        command: Command,
        /// `--interval` in nanoseconds, 0 if it was not given.
        interval: i64,
        /// `--timeout` in nanoseconds, 0 if it was not given.
        timeout: i64,
        /// `--start-period` in nanoseconds, 0 if it was not given.
        start_period: i64,
        /// `--start-interval` in nanoseconds, 0 if it was not given.
        start_interval: i64,
        /// `--retries`, 0 if it was not given.
        retries: u32,
    },
}

impl Run {
    /// What to run. A shell line that is one heredoc and nothing else runs its body: by the shell, or as a program if it
    /// begins with `#!`. Any other heredocs go back behind the line, for the shell to read.
    pub fn script(&self) -> Script {
        let line = match &self.command {
            Command::Exec(words) => return Script::Exec(words.clone()),
            Command::Shell(line) => line,
        };
        let only = super::heredoc::word(line).ok().flatten().and(self.heredocs.first());
        match only {
            Some(heredoc) => match heredoc.text() {
                content if content.starts_with("#!") => Script::File { name: heredoc.name.clone(), content },
                content => Script::Shell(content),
            },
            None => Script::Shell(
                self.heredocs.iter().fold(line.clone(), |line, heredoc| line + "\n" + &heredoc.content + &heredoc.name),
            ),
        }
    }
}

impl Heredoc {
    /// What the heredoc says: leading tabs are gone if it was `<<-`.
    pub fn text(&self) -> String {
        if !self.strips_tabs {
            return self.content.clone();
        }
        self.content.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
    }
}

impl Instruction {
    /// The instruction's name, in upper case.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Add(_) => "ADD",
            Self::Arg(_) => "ARG",
            Self::Cmd(_) => "CMD",
            Self::Copy(_) => "COPY",
            Self::Entrypoint(_) => "ENTRYPOINT",
            Self::Env(_) => "ENV",
            Self::Expose(_) => "EXPOSE",
            Self::Healthcheck(_) => "HEALTHCHECK",
            Self::Label(_) => "LABEL",
            Self::Maintainer(_) => "MAINTAINER",
            Self::Onbuild(_) => "ONBUILD",
            Self::Run(_) => "RUN",
            Self::Shell(_) => "SHELL",
            Self::StopSignal(_) => "STOPSIGNAL",
            Self::User(_) => "USER",
            Self::Volume(_) => "VOLUME",
            Self::Workdir(_) => "WORKDIR",
        }
    }
}
