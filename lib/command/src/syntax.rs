//! The language in which commands are declared.
//!
//! ```text
//! keyword'help'          a keyword and what `?` says about it
//! !keyword               a keyword of StarOS that is answered with "not supported"
//! ~keyword               accepted when written in full, but not shown (old spellings)
//! <name:kind'help'>      a parameter, see `Kind`
//! { a | b }              one of them
//! [ a ] [ b ]            each at most once, neighbours in any order
//! item*4                 the item one to four times
//! ```

use crate::kind::Kind;

/// A piece of a syntax.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    /// A keyword.
    Word(Word),
    /// A value.
    Parameter(Parameter),
    /// One after the other.
    Sequence(Vec<Node>),
    /// One of them.
    Choice(Vec<Node>),
    /// Each at most once, in any order.
    Options(Vec<Node>),
    /// One to so many times.
    Repeat(Box<Node>, u16),
}

/// A keyword.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) text: String,
    pub(crate) help: String,
    pub(crate) class: Class,
}

/// What becomes of a keyword that is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Accepted, also abbreviated.
    Plain,
    /// Accepted in full.
    Hidden,
    /// Refused as not supported.
    Unsupported,
}

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parameter {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) help: String,
}

impl Parameter {
    /// As messages and help show it.
    pub(crate) fn shown(&self) -> String {
        format!("<{}>", self.name)
    }
}

/// Reads a syntax; the error says where it is wrong, for whoever writes declarations.
pub(crate) fn parse(syntax: &str) -> Result<Node, String> {
    let mut parser = Parser { rest: syntax };
    let node = parser.sequence()?;
    if parser.rest.is_empty() {
        Ok(node)
    } else {
        Err(format!("'{}' is left over", parser.rest))
    }
}

/// The keywords a syntax begins with, up to the first parameter or group.
pub(crate) fn leading_words(node: &Node) -> Vec<&str> {
    match node {
        Node::Word(word) => vec![word.text.as_str()],
        Node::Sequence(nodes) => nodes
            .iter()
            .map_while(|node| match node {
                Node::Word(word) => Some(word.text.as_str()),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// The syntax as a manual prints it: without help texts and hidden or unsupported keywords.
pub(crate) fn render(node: &Node) -> String {
    match node {
        Node::Word(word) => word.text.clone(),
        Node::Parameter(parameter) => parameter.shown(),
        Node::Sequence(nodes) => join(nodes, " "),
        Node::Choice(nodes) => {
            let visible: Vec<&Node> = nodes.iter().filter(|node| is_visible(node)).collect();
            match visible.as_slice() {
                [only] => render(only),
                _ => format!("{{ {} }}", join(nodes, " | ")),
            }
        }
        Node::Options(nodes) => nodes
            .iter()
            .filter(|node| is_visible(node))
            .map(|node| format!("[ {} ]", render_bare(node)))
            .collect::<Vec<_>>()
            .join(" "),
        Node::Repeat(node, _) => format!("{} ...", render(node)),
    }
}

/// Something that help shows: not a hidden or unsupported keyword, nor a sequence with one.
pub(crate) fn is_visible(node: &Node) -> bool {
    match node {
        Node::Word(word) => word.class == Class::Plain,
        Node::Parameter(_) => true,
        Node::Sequence(nodes) => nodes
            .iter()
            .all(|node| matches!(node, Node::Options(_)) || is_visible(node)),
        Node::Choice(nodes) | Node::Options(nodes) => nodes.iter().any(is_visible),
        Node::Repeat(node, _) => is_visible(node),
    }
}

/// Every parameter of a syntax that help shows.
pub(crate) fn parameters(node: &Node) -> Vec<&Parameter> {
    match node {
        _ if !is_visible(node) => Vec::new(),
        Node::Word(_) => Vec::new(),
        Node::Parameter(parameter) => vec![parameter],
        Node::Sequence(nodes) | Node::Choice(nodes) | Node::Options(nodes) => {
            nodes.iter().flat_map(parameters).collect()
        }
        Node::Repeat(node, _) => parameters(node),
    }
}

/// Every keyword of a syntax.
pub(crate) fn words(node: &Node) -> Vec<&Word> {
    match node {
        Node::Word(word) => vec![word],
        Node::Parameter(_) => Vec::new(),
        Node::Sequence(nodes) | Node::Choice(nodes) | Node::Options(nodes) => {
            nodes.iter().flat_map(words).collect()
        }
        Node::Repeat(node, _) => words(node),
    }
}

fn render_bare(node: &Node) -> String {
    match node {
        Node::Choice(nodes) => join(nodes, " | "),
        _ => render(node),
    }
}

fn join(nodes: &[Node], separator: &str) -> String {
    let parts: Vec<String> = nodes.iter().filter(|node| is_visible(node)).map(render).collect();
    parts.join(separator)
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn sequence(&mut self) -> Result<Node, String> {
        let mut nodes: Vec<Node> = Vec::new();
        loop {
            self.rest = self.rest.trim_start();
            let node = match self.rest.chars().next() {
                None | Some('|' | '}' | ']') => break,
                Some('{') => self.group('}')?,
                Some('[') => Node::Options(vec![self.group(']')?]),
                Some('<') => Node::Parameter(self.parameter()?),
                Some(_) => Node::Word(self.word()?),
            };
            let node = self.repetition(node)?;
            match (nodes.last_mut(), node) {
                (Some(Node::Options(before)), Node::Options(more)) => before.extend(more),
                (_, node) => nodes.push(node),
            }
        }
        Ok(match <[Node; 1]>::try_from(nodes) {
            Ok([only]) => only,
            Err(nodes) => Node::Sequence(nodes),
        })
    }

    fn group(&mut self, close: char) -> Result<Node, String> {
        self.advance(1);
        let mut alternatives = vec![self.sequence()?];
        loop {
            match self.rest.chars().next() {
                Some('|') => {
                    self.advance(1);
                    alternatives.push(self.sequence()?);
                }
                Some(c) if c == close => {
                    self.advance(1);
                    break;
                }
                _ => return Err(format!("'{close}' missing before '{}'", self.rest)),
            }
        }
        Ok(match <[Node; 1]>::try_from(alternatives) {
            Ok([only]) => only,
            Err(alternatives) => Node::Choice(alternatives),
        })
    }

    fn parameter(&mut self) -> Result<Parameter, String> {
        self.advance(1);
        let name = self.take_until(|c| c == ':');
        self.advance(1);
        let kind = self.take_until(|c| matches!(c, '\'' | '>'));
        let kind = Kind::parse(kind).ok_or_else(|| format!("no kind of parameter is '{kind}'"))?;
        let help = self.help()?;
        if name.is_empty() || !self.rest.starts_with('>') {
            return Err(format!("'>' missing before '{}'", self.rest));
        }
        self.advance(1);
        Ok(Parameter {
            name: name.to_owned(),
            kind,
            help,
        })
    }

    fn word(&mut self) -> Result<Word, String> {
        let class = match self.rest.chars().next() {
            Some('!') => Class::Unsupported,
            Some('~') => Class::Hidden,
            _ => Class::Plain,
        };
        if class != Class::Plain {
            self.advance(1);
        }
        let text = self
            .take_until(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '#' | '/')));
        if text.is_empty() {
            return Err(format!("a keyword is missing before '{}'", self.rest));
        }
        Ok(Word {
            text: text.to_owned(),
            help: self.help()?,
            class,
        })
    }

    fn help(&mut self) -> Result<String, String> {
        if !self.rest.starts_with('\'') {
            return Ok(String::new());
        }
        self.advance(1);
        let text = self.take_until(|c| c == '\'').to_owned();
        if self.rest.is_empty() {
            return Err(format!("help text not closed: '{text}'"));
        }
        self.advance(1);
        Ok(text)
    }

    fn repetition(&mut self, node: Node) -> Result<Node, String> {
        if !self.rest.starts_with('*') {
            return Ok(node);
        }
        self.advance(1);
        let digits = self.take_until(|c| !c.is_ascii_digit());
        let times: u16 = digits
            .parse()
            .map_err(|_| format!("no number after '*': '{digits}'"))?;
        if times < 2 {
            return Err("a repetition is for two or more".to_owned());
        }
        Ok(Node::Repeat(Box::new(node), times))
    }

    fn take_until(&mut self, stop: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(stop).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    fn advance(&mut self, octets: usize) {
        self.rest = self.rest.get(octets..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_syntax_prints_as_a_manual_does() {
        let node = parse(
            "ip'IPv4' address {<address:ipv4'Host'> <mask:mask> | <prefix:prefix4>} [secondary'More'] [~old | cost <cost:0-255>]",
        )
        .unwrap();
        assert_eq!(
            render(&node),
            "ip address { <address> <mask> | <prefix> } [ secondary ] [ cost <cost> ]"
        );
        assert_eq!(leading_words(&node), ["ip", "address"]);
        let Node::Sequence(nodes) = &node else { panic!() };
        assert!(matches!(&nodes[3], Node::Options(options) if options.len() == 2));
    }

    #[test]
    fn repetitions() {
        let node = parse("list <name:name(127)>*6").unwrap();
        assert_eq!(render(&node), "list <name> ...");
    }

    #[test]
    fn mistakes_are_found() {
        for wrong in [
            "a {b",
            "a <b:c>",
            "a <b:1-2",
            "a 'x",
            "a ]",
            "a <x:name(9)>*1",
            "a 'help",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
