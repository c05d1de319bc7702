//! The rules, by BuildKit's names.

use std::fmt;

macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident => $kebab:literal,)*) => {
        /// A rule of BuildKit's linter.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Rule {
            $($(#[$doc])* $name,)*
        }

        impl Rule {
            /// Every rule.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// As `# check=skip=…` spells it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            fn kebab(self) -> &'static str {
                match self {
                    $(Self::$name => $kebab,)*
                }
            }
        }
    };
}

rules! {
    /// A stage is named in lower case.
    StageNameCasing => "stage-name-casing",
    /// `FROM` and `AS` are written alike.
    FromAsCasing => "from-as-casing",
    /// No empty line between continued lines.
    NoEmptyContinuation => "no-empty-continuation",
    /// Instructions are written alike.
    ConsistentInstructionCasing => "consistent-instruction-casing",
    /// No two stages with one name.
    DuplicateStageName => "duplicate-stage-name",
    /// No stage `scratch` or `context`.
    ReservedStageName => "reserved-stage-name",
    /// `CMD` and `ENTRYPOINT` in JSON form.
    JSONArgsRecommended => "json-args-recommended",
    /// No `MAINTAINER`.
    MaintainerDeprecated => "maintainer-deprecated",
    /// `FROM` uses declared arguments.
    UndefinedArgInFrom => "undefined-arg-in-from",
    /// An absolute `WORKDIR` comes first.
    WorkdirRelativePath => "workdir-relative-path",
    /// Variables are set before they are used.
    UndefinedVar => "undefined-var",
    /// One `CMD`, `ENTRYPOINT` and `HEALTHCHECK` a stage.
    MultipleInstructionsDisallowed => "multiple-instructions-disallowed",
    /// `KEY=value`, not `KEY value`.
    LegacyKeyValueFormat => "legacy-key-value-format",
    /// A base is for the platform that is built for.
    InvalidBaseImagePlatform => "invalid-base-image-platform",
    /// No `--platform=$TARGETPLATFORM`.
    RedundantTargetPlatform => "redundant-target-platform",
    /// No secrets in `ARG` and `ENV`.
    SecretsUsedInArgOrEnv => "secrets-used-in-arg-or-env",
    /// `FROM` is sound with the defaults of its arguments.
    InvalidDefaultArgInFrom => "invalid-default-arg-in-from",
    /// No constant `FROM --platform`.
    FromPlatformFlagConstDisallowed => "from-platform-flag-const-disallowed",
    /// What is copied is not left out of the context.
    CopyIgnoredFile => "copy-ignored-file",
    /// A comment on a stage or argument begins with its name.
    InvalidDefinitionDescription => "invalid-definition-description",
    /// Protocols in lower case.
    ExposeProtoCasing => "expose-proto-casing",
    /// `EXPOSE` names no host's port or address.
    ExposeInvalidFormat => "expose-invalid-format",
}

impl Rule {
    /// Whether it must be asked for: `# check=experimental=…`.
    pub fn is_experimental(self) -> bool {
        self == Self::InvalidDefinitionDescription
    }

    /// Where it is explained.
    pub fn url(self) -> String {
        format!("https://docs.docker.com/go/dockerfile/rule/{}/", self.kebab())
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
