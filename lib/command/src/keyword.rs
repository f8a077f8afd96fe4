//! Enumerations whose values are keywords of commands.

/// An enumeration that is written in commands as one keyword per value. Declared with [`keywords!`](crate::keywords).
pub trait Keyword: Copy + Eq + 'static {
    /// Every value, in declaration order.
    const ALL: &'static [Self];

    /// The keyword of this value.
    fn keyword(self) -> &'static str;

    /// What `?` says about it.
    fn help(self) -> &'static str;

    /// The value with this keyword (letters of either case).
    fn from_keyword(text: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|value| value.keyword().eq_ignore_ascii_case(text))
    }

    /// The values as alternatives of a syntax: `sha1'...'|md5'...'`.
    fn alternatives() -> String {
        let words: Vec<String> = Self::ALL
            .iter()
            .map(|value| format!("{}'{}'", value.keyword(), value.help()))
            .collect();
        words.join("|")
    }
}

/// Declares an enumeration with its keywords and their help texts, once:
///
/// ```
/// command::keywords! {
///     /// How a service is used.
///     pub enum DeploymentMode {
///         RemoteAccess = "remote-access", "Peers are hosts that ask for an address";
///         SiteToSite = "site-to-site", "Peers are routers with networks behind them";
///     }
/// }
/// use command::Keyword;
/// assert_eq!(DeploymentMode::from_keyword("site-to-site"), Some(DeploymentMode::SiteToSite));
/// ```
#[macro_export]
macro_rules! keywords {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[$attribute:meta])* $value:ident = $word:literal, $help:literal;)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $(#[doc = $help] $(#[$attribute])* $value,)* }

        impl $crate::Keyword for $name {
            const ALL: &'static [Self] = &[$($name::$value,)*];

            fn keyword(self) -> &'static str {
                match self { $($name::$value => $word,)* }
            }

            fn help(self) -> &'static str {
                match self { $($name::$value => $help,)* }
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str($crate::Keyword::keyword(*self))
            }
        }
    };
}
