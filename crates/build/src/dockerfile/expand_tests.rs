use super::*;

fn env(name: &str) -> Option<String> {
    let value = match name {
        "PWD" => "/home",
        "SHELL" => "bash",
        "KOREAN" => "한국어",
        "NULL" => "",
        "FOO" => "xxyy",
        "X" => "x",
        "SPACES" => " a  b ",
        "PATTERN" => "\\*/",
        "STARS" => "/foo*/*/*.txt",
        "DOLLAR" => "<$0>",
        "QUOTE" => "it's",
        _ => return None,
    };
    Some(value.to_owned())
}

fn word(text: &str) -> Result<String, String> {
    expand(text, '\\', &env).map_err(|error| error.message)
}

fn words(text: &str) -> Vec<String> {
    expand_words(text, '\\', &env).unwrap()
}

#[test]
fn words_expand_as_in_buildkit() {
    for (text, expected) in [
        ("", ""),
        ("he'll'o", "hello"),
        ("he'll\\'o", "hell\\o"),
        ("he\\'llo", "he'llo"),
        ("he\\\\'llo'", "he\\llo"),
        ("abc\\tdef", "abctdef"),
        ("\"abc\\tdef\"", "abc\\tdef"),
        ("'abc\\tdef'", "abc\\tdef"),
        ("hello\\", "hello"),
        ("\"hello\\\\\"", "hello\\"),
        ("\"'hi'\"", "'hi'"),
        ("'\"hi\"'", "\"hi\""),
        ("\"\\$x \\\"\"", "$x \""),
        ("he$PWD", "he/home"),
        ("he\\$PWD", "he$PWD"),
        ("he'$PWD'", "he$PWD"),
        ("\"$PWD\"", "/home"),
        ("$PWDx", ""),
        ("${PWD}x", "/homex"),
        ("$KOREAN", "한국어"),
        ("안녕$KOREAN", "안녕한국어"),
        ("$", "$"),
        ("a$", "a$"),
        ("$ a", "$ a"),
        ("$.", "$."),
        ("$1x", "x"),
        ("$10x", "x"),
        ("$$X", "X"),
        ("$@ $* $# $? $- $! $0", "      "),
        ("$QUOTE", "it's"),
        ("$SPACES", " a  b "),
        ("${@}", ""),
    ] {
        assert_eq!(word(text), Ok(expected.to_owned()), "{text}");
    }
}

#[test]
fn defaults_depend_on_unset_or_on_empty() {
    for (text, expected) in [
        ("${NONE:-w}", "w"),
        ("${NONE-w}", "w"),
        ("${NULL:-w}", "w"),
        ("${NULL-w}", ""),
        ("${PWD:-w}", "/home"),
        ("${NONE:+w}", ""),
        ("${NONE+w}", ""),
        ("${NULL:+w}", ""),
        ("${NULL+w}", "w"),
        ("${PWD:+w}", "w"),
        ("${NONE:-$PWD}", "/home"),
        ("${NONE:-${NULL:-${PWD}}}", "/home"),
        ("${NONE:-a\\}b}", "a}b"),
        ("${NONE:-'}'}", "}"),
        ("${NONE:-\"$X y\"}", "x y"),
        ("${NONE:-}", ""),
        ("${PWD:?m}", "/home"),
        ("${NULL?m}", ""),
    ] {
        assert_eq!(word(text), Ok(expected.to_owned()), "{text}");
    }
}

#[test]
fn patterns_cut_and_replace() {
    for (text, expected) in [
        ("${FOO#x}", "xyy"),
        ("${FOO#x}\\a", "xyya"),
        ("${FOO#*x}", "xyy"),
        ("${FOO##*x}", "yy"),
        ("${FOO%y}", "xxy"),
        ("${FOO%y*}", "xxy"),
        ("${FOO%%y*}", "xx"),
        ("${FOO%x}", "xxyy"),
        ("${FOO#$X}", "xyy"),
        ("${FOO#$NULL}", "xxyy"),
        ("${NONE#x}", ""),
        ("${FOO/x/z}", "zxyy"),
        ("${FOO//x/z}", "zzyy"),
        ("${FOO//x/}", "yy"),
        ("${FOO///}", "xxyy"),
        ("${FOO/$NULL/w}", "wxxyy"),
        ("${NONE/a/b}", ""),
        ("${STARS/$PATTERN/.}", "/foo.*/*.txt"),
        ("${STARS//$PATTERN/.}", "/foo..*.txt"),
        ("${PWD//\\//\\/}", "\\/home"),
        ("${FOO//x/$DOLLAR}", "<x><x>yy"),
        ("${FOO/x/$DOLLAR}", "<$0>xyy"),
        ("${STARS##*\\*}", ".txt"),
        ("${STARS%%\\**}", "/foo"),
    ] {
        assert_eq!(word(text), Ok(expected.to_owned()), "{text}");
    }
}

#[test]
fn errors_are_buildkits() {
    for (text, message) in [
        ("'a", "unexpected end of statement while looking for matching single-quote"),
        ("\"a", "unexpected end of statement while looking for matching double-quote"),
        ("${", "syntax error: missing '}'"),
        ("${X", "syntax error: missing '}'"),
        ("${X:", "syntax error: missing '}'"),
        ("${X:-", "syntax error: missing '}'"),
        ("${X:-'a}", "syntax error: missing '}'"),
        ("${X/a}", "syntax error: missing '/' in ${}"),
        ("${X//ww}", "syntax error: missing '/' in ${}"),
        ("${X/a/b", "syntax error: missing '}'"),
        ("${}", "syntax error: bad substitution"),
        ("${{X}}", "syntax error: bad substitution"),
        ("${:X}", "syntax error: bad substitution"),
        ("${X=a}", "unsupported modifier (=) in substitution"),
        ("${X:=a}", "unsupported modifier (:=) in substitution"),
        ("${X:#a}", "unsupported modifier (:#) in substitution"),
        ("${X:%a}", "unsupported modifier (:%) in substitution"),
        ("${X a}", "unsupported modifier ( ) in substitution"),
        ("${NONE?}", "NONE: is not allowed to be unset"),
        ("${NONE:?}", "NONE: is not allowed to be unset"),
        ("${NULL:?}", "NULL: is not allowed to be empty"),
        ("${NONE?why $X}", "NONE: why x"),
        ("${X#\\a}", "invalid pattern (\\a) in substitution: invalid escape '\\a'"),
        ("${X/\\a/b}", "invalid pattern (\\a) in substitution: invalid escape '\\a'"),
    ] {
        assert_eq!(word(text), Err(message.to_owned()), "{text}");
    }
    let error = expand("a${", '\\', &env).unwrap_err();
    assert_eq!(error.to_string(), "failed to process \"a${\": syntax error: missing '}'");
}

#[test]
fn words_split_after_variables_have_been_put_in() {
    for (text, expected) in [
        ("a b", vec!["a", "b"]),
        ("  a  b  ", vec!["a", "b"]),
        ("a\\ b", vec!["a b"]),
        ("'a b' c", vec!["a b", "c"]),
        ("a\"b c\"d", vec!["ab cd"]),
        ("$SPACES", vec!["a", "b"]),
        ("\"$SPACES\"", vec![" a  b "]),
        ("x$SPACES", vec!["x", "a", "b"]),
        ("'' a", vec!["a"]),
        ("$NONE", vec![]),
        ("8000-8010/tcp $X", vec!["8000-8010/tcp", "x"]),
    ] {
        assert_eq!(words(text), expected, "{text}");
    }
}

#[test]
fn the_escape_character_is_the_dockerfiles() {
    let backtick = |text: &str| expand(text, '`', &env).unwrap();
    assert_eq!(backtick("C:\\dir\\$X"), "C:\\dir\\x");
    assert_eq!(backtick("a` `$X"), "a $X");
    assert_eq!(backtick("\"`\"`n\""), "\"`n");
}

#[test]
fn the_content_of_a_heredoc_keeps_its_quotes() {
    let expanded = Expander::new('\\', &env).keeping_quotes().run("it's \"$X\" \\$X '${NONE:-'w'}'\n").unwrap();
    assert_eq!(expanded.word, "it's \"x\" $X ''w''\n");
}

#[test]
fn what_was_asked_for_is_known() {
    let expanded = Expander::new('\\', &env).run("$X ${NONE:-$NULL} \"$OTHER\" '$QUOTED'").unwrap();
    assert_eq!(expanded.matched.iter().map(String::as_str).collect::<Vec<_>>(), ["NULL", "X"]);
    assert_eq!(expanded.unmatched.iter().map(String::as_str).collect::<Vec<_>>(), ["NONE", "OTHER"]);
}

#[test]
fn deep_nesting_is_refused() {
    let nested = |depth: usize| "${NONE:-".repeat(depth) + "w" + &"}".repeat(depth);
    assert_eq!(word(&nested(60)), Ok("w".to_owned()));
    assert!(word(&nested(100_000)).is_err());
}

#[test]
fn what_substitutions_make_has_a_limit() {
    let large = "a".repeat(LARGEST / 2);
    let env = |name: &str| match name {
        "HALF" => Some(large.clone()),
        "MATCH" => Some("$0".repeat(LARGEST / 4)),
        "STARS" => Some("*a".repeat(LARGEST / 64) + "b"),
        _ => None,
    };
    let word = |text: &str| expand(text, '\\', &env).map(|word| word.len()).map_err(|error| error.message);
    assert_eq!(word("$HALF$HALF"), Ok(LARGEST));
    assert_eq!(word(&"text ".repeat(LARGEST / 4)), Ok(LARGEST / 4 * 5), "there are no variables");
    let too_large = || Err("its variables expand to more than 1048576 bytes".to_owned());
    for text in [
        "$HALF$HALF-$NONE${NONE:-x}",
        "${HALF}${HALF}${HALF}",
        "\"$HALF$HALF$HALF\"",
        "${NONE:-$HALF$HALF$HALF}",
        "${HALF//a/xxx}",
        "${HALF//a/$HALF}",
        "${HALF//*/$MATCH}",
    ] {
        assert_eq!(word(text), too_large(), "{text}");
    }
    let too_much = || Err("its patterns take more than 1048576 steps to match".to_owned());
    for text in ["${HALF#$STARS}", "${HALF/$STARS/x}", "${HALF//$STARS/x}"] {
        assert_eq!(word(text), too_much(), "{text}");
    }
}
