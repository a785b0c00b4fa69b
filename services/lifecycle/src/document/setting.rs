//! Settings of databases and roles: which may stand in a document, and how a value that is a list is read.

/// Settings that a document may not make, and why. The rest the server judges.
const FORBIDDEN: [(&str, &[&str]); 4] = [
    ("decides as whom a session acts, which `roles` say", &["role", "session_authorization", "is_superuser"]),
    (
        "loads code into sessions; that is for who runs the server",
        &[
            "session_preload_libraries",
            "local_preload_libraries",
            "shared_preload_libraries",
            "dynamic_library_path",
            "jit_provider",
        ],
    ),
    (
        "takes protection away from data",
        &[
            "allow_system_table_mods",
            "ignore_checksum_failure",
            "ignore_system_indexes",
            "lo_compat_privileges",
            "session_replication_role",
            "zero_damaged_pages",
            "password_encryption",
        ],
    ),
    (
        "makes sessions that cannot write, or that end by themselves, so that nobody could see that the database is ready",
        &[
            "default_transaction_read_only",
            "transaction_read_only",
            "exit_on_error",
            "post_auth_delay",
            "pre_auth_delay",
        ],
    ),
];

/// Settings whose value is a list of names: quoted as one they would mean another thing.
const LISTS: [&str; 2] = ["search_path", "temp_tablespaces"];

/// Why a setting may not stand in a document; none where it may.
pub fn forbidden_setting(name: &str) -> Option<String> {
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
            && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    if name.len() > 63 || !name.split('.').all(part) {
        return Some("is no setting: write its name in lower-case letters, digits, `_` and `.`".to_owned());
    }
    let why = FORBIDDEN.iter().find(|(_, names)| names.contains(&name))?.0;
    Some(format!("{why}; take it out"))
}

/// The items of a setting's value, each as the server takes it: one for most settings, several where the value is a list of
/// names (as `a, "B"`, which is `a` and `B`; a name without quotes is in lower case). None where that list is malformed.
pub fn setting_items(name: &str, value: &str) -> Option<Vec<String>> {
    if !LISTS.contains(&name) {
        return Some(vec![value.to_owned()]);
    }
    let mut items = Vec::new();
    let mut rest = value.trim();
    if rest.is_empty() {
        return Some(items);
    }
    loop {
        let (item, after) = if let Some(quoted) = rest.strip_prefix('"') {
            quoted_name(quoted)?
        } else {
            let (item, after) = rest.split_at(rest.find(',').unwrap_or(rest.len()));
            let item = item.trim();
            if item.is_empty() || item.contains([' ', '\t', '"', '\'']) {
                return None;
            }
            (item.to_lowercase(), after)
        };
        items.push(item);
        match after.trim_start().strip_prefix(',') {
            Some(next) => rest = next.trim(),
            None => return after.trim().is_empty().then_some(items),
        }
    }
}

/// A name up to its closing quote, and what follows; two quotes are one.
fn quoted_name(text: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut from = 0;
    loop {
        let end = from + text[from..].find('"')?;
        name.push_str(&text[from..end]);
        let after = &text[end + 1..];
        if !after.starts_with('"') {
            return (!name.is_empty()).then_some((name, after));
        }
        name.push('"');
        from = end + 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_opens_things_or_breaks_sessions_is_forbidden() {
        for name in
            ["role", "session_authorization", "local_preload_libraries", "default_transaction_read_only"]
        {
            assert!(forbidden_setting(name).is_some_and(|why| why.contains("take it out")), "{name}");
        }
        for name in ["", "Work_mem", "work mem", "a..b", "work_mem; DROP", "1a"] {
            assert!(forbidden_setting(name).is_some_and(|why| why.contains("is no setting")), "{name}");
        }
        for name in
            ["work_mem", "statement_timeout", "search_path", "app.tenant", "pg_trgm.similarity_threshold"]
        {
            assert_eq!(forbidden_setting(name), None, "{name}");
        }
    }

    #[test]
    fn lists_of_names_are_read_as_the_server_reads_them() {
        let items = |value| setting_items("search_path", value).map(|items| items.join("|"));
        assert_eq!(items("registry, public").as_deref(), Some("registry|public"));
        assert_eq!(items(" \"$user\" ,Public").as_deref(), Some("$user|public"));
        assert_eq!(items("\"a\"\"b, c\",d").as_deref(), Some("a\"b, c|d"));
        assert_eq!(items("").as_deref(), Some(""));
        for malformed in ["a,", ",a", "a b", "\"a", "\"\"", "a\"b", "\"a\" b"] {
            assert_eq!(items(malformed), None, "{malformed}");
        }
        assert_eq!(setting_items("work_mem", "64MB, x"), Some(vec!["64MB, x".to_owned()]));
    }
}
