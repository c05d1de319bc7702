//! Environment variables as a value: the binary or the runner hands them in, nothing here asks the process.

use std::collections::BTreeMap;

/// Variables by name, in byte order. Values that are not UTF-8 cannot be held; whoever fills this decides about them.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The variable's value. As for every program we replace, an empty one counts as not set.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The variables whose names begin with `prefix`: the rest of the name, and the value (which may be empty).
    pub fn with_prefix<'e>(&'e self, prefix: &'e str) -> impl Iterator<Item = (&'e str, &'e str)> {
        self.0
            .range(prefix.to_owned()..)
            .take_while(move |(name, _)| name.starts_with(prefix))
            .filter_map(move |(name, value)| Some((name.strip_prefix(prefix)?, value.as_str())))
    }

    /// Every variable.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

/// Names only: values are often secrets.
impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_takes_the_rest_of_the_name_and_nothing_else() {
        let environment: Environment =
            [("BUILD_ARG_a", "1"), ("BUILD_ARG_", "x"), ("BUILD_ARGS", "y"), ("BUILD_ARG_b", ""), ("A", "")]
                .into_iter()
                .collect();
        let found: Vec<_> = environment.with_prefix("BUILD_ARG_").collect();
        assert_eq!(found, [("", "x"), ("a", "1"), ("b", "")]);
        assert_eq!(environment.get("A"), None);
        assert_eq!(format!("{environment:?}"), r#"{"A", "BUILD_ARGS", "BUILD_ARG_", "BUILD_ARG_a", "BUILD_ARG_b"}"#);
    }
}
