//! The manifest's list of hosts.

use std::collections::BTreeSet;

use super::EgressError;

/// Hosts that a manifest allows; `*.example.com` stands for one or more labels before `example.com`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowList(BTreeSet<String>);

impl AllowList {
    /// The list as it stands in the manifest.
    pub fn new<I: IntoIterator<Item = S>, S: AsRef<str>>(hosts: I) -> Self {
        Self(hosts.into_iter().map(|host| host.as_ref().to_ascii_lowercase()).collect())
    }

    /// Refuses a host that is not on the list, naming the line that would allow it.
    pub(super) fn check(&self, host: &str) -> Result<(), EgressError> {
        let matches = |entry: &String| match entry.strip_prefix("*.") {
            Some(domain) => host
                .strip_suffix(domain)
                .and_then(|rest| rest.strip_suffix('.'))
                .is_some_and(|labels| !labels.is_empty()),
            None => entry == host,
        };
        if self.0.iter().any(matches) {
            return Ok(());
        }
        let mut hosts: BTreeSet<&str> = self.0.iter().map(String::as_str).collect();
        hosts.insert(host);
        let list: Vec<String> = hosts.into_iter().map(|host| format!("\"{host}\"")).collect();
        Err(EgressError::NotAllowed { host: host.to_owned(), line: format!("allow = [{}]", list.join(", ")) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_match_whole_and_stars_match_labels() {
        let list = AllowList::new(["api.example.com", "*.Example.org"]);
        let check = |host: &str, allowed: bool| assert_eq!(list.check(host).is_ok(), allowed, "{host}");
        check("api.example.com", true);
        check("example.com", false);
        check("xapi.example.com", false);
        check("api.example.com.evil.net", false);
        check("a.example.org", true);
        check("a.b.example.org", true);
        check("example.org", false);
        check(".example.org", false);
        check("aexample.org", false);
    }

    #[test]
    fn a_refusal_names_the_line_to_write() {
        let error = AllowList::new(["b.example"]).check("a.example").unwrap_err().to_string();
        assert!(error.contains(r#"allow = ["a.example", "b.example"]"#), "{error}");
    }
}
