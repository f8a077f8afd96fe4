//! Names of counter pages: who writes them and what they count.

use crate::counters::Schema;

/// What a set of counters belongs to when the node keeps one set for each of something, such as each service.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scope {
    /// The schema whose counters live here.
    pub schema: Schema,
    /// Context name (`%vpnname%`).
    pub context: String,
    /// Name of the object in the context (`%servname%`, `%svcname%`).
    pub name: String,
}

impl Scope {
    /// The counters of a `wsg-service`.
    pub fn wsg(context: &str, service: &str) -> Self {
        Self {
            schema: Schema::Wsg,
            context: context.to_owned(),
            name: service.to_owned(),
        }
    }

    /// The gauges of a pool of addresses.
    pub fn pool(context: &str, pool: &str) -> Self {
        Self {
            schema: Schema::IpPool,
            context: context.to_owned(),
            name: pool.to_owned(),
        }
    }
}

/// The name of a page file: `FACILITY-INSTANCE`, and `FACILITY-INSTANCE:SCHEMA:CONTEXT:NAME` for a scoped page.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PageName {
    pub facility: String,
    pub instance: u32,
    pub scope: Option<Scope>,
}

impl PageName {
    pub(crate) fn file_name(&self) -> String {
        let owner = format!("{}-{}", self.facility, self.instance);
        match &self.scope {
            None => owner,
            Some(scope) => {
                format!(
                    "{owner}:{}:{}:{}",
                    scope.schema.name(),
                    escape(&scope.context),
                    escape(&scope.name)
                )
            }
        }
    }

    /// The inverse of [`Self::file_name`]; `None` for a file that is not a page.
    pub(crate) fn parse(file_name: &str) -> Option<Self> {
        let mut parts = file_name.split(':');
        let (facility, instance) = parts.next()?.rsplit_once('-')?;
        let scope = match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (None, ..) => None,
            (Some(schema), Some(context), Some(name), None) => Some(Scope {
                schema: Schema::from_name(schema)?,
                context: unescape(context)?,
                name: unescape(name)?,
            }),
            _ => return None,
        };
        let page = Self {
            facility: facility.to_owned(),
            instance: instance.parse().ok()?,
            scope,
        };
        // Only names that we would write: a page in the making has a suffix.
        (page.file_name() == file_name).then_some(page)
    }
}

/// Keeps letters, digits, `_` and `-`, writes every other byte as `%XX`: a name can never leave the directory.
fn escape(name: &str) -> String {
    name.bytes().fold(String::new(), |mut text, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' => text.push(char::from(byte)),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
        text
    })
}

fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let hex = std::str::from_utf8(rest.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(hex, 16).ok()?);
        rest = rest.get(2..)?;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_page_name_survives_its_file_name(
            facility in "[a-z]{1,12}", instance: u32, scoped: bool, context in "\\PC{0,20}", name in "\\PC{0,20}"
        ) {
            let page = PageName { facility, instance, scope: scoped.then(|| Scope::wsg(&context, &name)) };
            let file_name = page.file_name();
            prop_assert!(!file_name.contains('/'));
            prop_assert_eq!(PageName::parse(&file_name), Some(page));
        }

        #[test]
        fn any_file_name_is_read_without_panic(file_name in "\\PC{0,60}") {
            PageName::parse(&file_name);
        }
    }

    #[test]
    fn file_names_are_the_documented_ones() {
        let page = PageName {
            facility: "sessmgr".into(),
            instance: 2,
            scope: Some(Scope::wsg("isp", "enb.1")),
        };
        assert_eq!(page.file_name(), "sessmgr-2:wsg:isp:enb%2E1");
        assert_eq!(PageName::parse("lock"), None);
        assert_eq!(PageName::parse("sessmgr-2:nonsense:a:b"), None);
        assert_eq!(PageName::parse("sessmgr-2:wsg:isp:enb.77.new"), None);
        assert_eq!(PageName::parse("sessmgr-2.77.new"), None);
    }
}
