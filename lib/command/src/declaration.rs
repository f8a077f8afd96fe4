//! The declaration of one configuration command.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use crate::syntax::{self, Node};
use crate::{Args, Error, Keyword, Lines};

/// A command of a mode whose object has type `T`: its syntax, its `no` and `default` forms, what it sets, how it is printed.
///
/// ```
/// use command::{Args, Command, Lines};
/// struct Service { mtu: Option<u16> }
/// let command = Command::<Service>::new("mtu <mtu:576-2048'Largest packet'>", "Limits the size of packets")
///     .undo("mtu")
///     .set(|service, args| { service.mtu = args.get("mtu")?; Ok(()) })
///     .unset(|service, _| { service.mtu = None; Ok(()) })
///     .show(|service, out| if let Some(mtu) = service.mtu { out.line(format!("mtu {mtu}")) });
/// ```
pub struct Command<T> {
    pub(crate) syntax: String,
    pub(crate) help: &'static str,
    pub(crate) no: Option<String>,
    pub(crate) default: Option<String>,
    pub(crate) set: Option<Setter>,
    pub(crate) unset: Option<Setter>,
    pub(crate) reset: Option<Setter>,
    pub(crate) show: Option<Shower>,
    pub(crate) enter: Option<Enter>,
    pub(crate) missing_mode: Option<&'static [&'static str]>,
    object: std::marker::PhantomData<fn(&mut T)>,
}

pub(crate) type Setter = Box<dyn Fn(&mut dyn Any, &Args<'_>) -> Result<(), Error> + Send + Sync>;
pub(crate) type Shower = Box<dyn Fn(&dyn Any, &mut Lines) + Send + Sync>;
pub(crate) type Opener = Box<dyn Fn(&mut dyn Any, &Args<'_>) -> Result<String, Error> + Send + Sync>;
pub(crate) type Getter = Box<dyn for<'a> Fn(&'a dyn Any, &str) -> Option<&'a dyn Any> + Send + Sync>;
pub(crate) type GetterMut =
    Box<dyn for<'a> Fn(&'a mut dyn Any, &str) -> Option<&'a mut dyn Any> + Send + Sync>;
pub(crate) type Judge = Box<dyn Fn(&dyn Any) -> bool + Send + Sync>;
pub(crate) type Lister = Box<dyn Fn(&dyn Any) -> Vec<(String, String)> + Send + Sync>;

/// How a command leads into a sub-mode.
pub(crate) struct Enter {
    pub(crate) mode: &'static str,
    pub(crate) open: Opener,
    pub(crate) get: Getter,
    pub(crate) get_mut: GetterMut,
    /// Key and line of every object there is.
    pub(crate) list: Lister,
    /// The objects are printed.
    pub(crate) printed: Judge,
}

/// A field of an object, to read and to write. Made by [`lens!`](crate::lens).
pub struct Lens<T, V> {
    /// Reads it.
    pub get: fn(&T) -> &V,
    /// Writes it.
    pub get_mut: fn(&mut T) -> &mut V,
}

impl<T, V> Clone for Lens<T, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, V> Copy for Lens<T, V> {}

/// Names a field: `lens!(ikesa.setup_timer)`.
#[macro_export]
macro_rules! lens {
    ($($field:ident).+) => {
        $crate::Lens {
            get: |object| &object.$($field).+,
            get_mut: |object| &mut object.$($field).+,
        }
    };
}

impl<T: Any> Command<T> {
    /// A command with its syntax (see the [crate]) and the sentence that explains it.
    pub fn new(syntax: impl Into<String>, help: &'static str) -> Self {
        Self {
            syntax: syntax.into(),
            help,
            no: None,
            default: None,
            set: None,
            unset: None,
            reset: None,
            show: None,
            enter: None,
            missing_mode: None,
            object: std::marker::PhantomData,
        }
    }

    /// A command of StarOS that this version does not have: every line that begins with its keywords is refused.
    pub fn unsupported(words: &str) -> Self {
        let marked: Vec<String> = match words.rsplit_once(' ') {
            Some((before, last)) => vec![format!("{before} !{last}")],
            None => vec![format!("!{words}")],
        };
        Self::new(marked.concat(), "")
    }

    /// A mode that this version does not have begins here; these commands of it lead on to further ones.
    pub(crate) fn missing_mode(mut self, nested: &'static [&'static str]) -> Self {
        self.missing_mode = Some(nested);
        self
    }

    /// The syntax after `no`.
    pub fn no(mut self, syntax: impl Into<String>) -> Self {
        self.no = Some(syntax.into());
        self
    }

    /// The syntax after `default`.
    pub fn default(mut self, syntax: impl Into<String>) -> Self {
        self.default = Some(syntax.into());
        self
    }

    /// The syntax after `no` and after `default`, which do the same.
    pub fn undo(self, syntax: &str) -> Self {
        self.no(syntax).default(syntax)
    }

    /// What the command does.
    pub fn set(
        mut self,
        set: impl Fn(&mut T, &Args<'_>) -> Result<(), Error> + Send + Sync + 'static,
    ) -> Self {
        self.set = Some(setter(set));
        self
    }

    /// What its `no` form does, and its `default` form when there is no [`Command::reset`].
    pub fn unset(
        mut self,
        unset: impl Fn(&mut T, &Args<'_>) -> Result<(), Error> + Send + Sync + 'static,
    ) -> Self {
        self.unset = Some(setter(unset));
        self
    }

    /// What its `default` form does.
    pub fn reset(
        mut self,
        reset: impl Fn(&mut T, &Args<'_>) -> Result<(), Error> + Send + Sync + 'static,
    ) -> Self {
        self.reset = Some(setter(reset));
        self
    }

    /// The lines of `show configuration` that bring the object where it is.
    pub fn show(mut self, show: impl Fn(&T, &mut Lines) + Send + Sync + 'static) -> Self {
        self.show = Some(Box::new(move |object, lines| {
            if let Some(object) = object.downcast_ref::<T>() {
                show(object, lines);
            }
        }));
        self
    }

    /// The command leads into `mode`, whose object is an entry of a map: `open` finds or makes it and says its key, `line` is the
    /// command that leads there, as `show configuration` prints it.
    pub fn enter<K, C>(
        mut self,
        mode: &'static str,
        map: Lens<T, BTreeMap<K, C>>,
        open: impl Fn(&mut T, &Args<'_>) -> Result<K, Error> + Send + Sync + 'static,
        line: impl Fn(&K, &C) -> String + Send + Sync + 'static,
    ) -> Self
    where
        K: Any + Ord + Display + FromStr,
        C: Any,
    {
        self.enter = Some(Enter {
            mode,
            open: Box::new(move |object, args| {
                let object = downcast_mut::<T>(object)?;
                open(object, args).map(|key| key.to_string())
            }),
            get: Box::new(move |object, key| {
                let object = object.downcast_ref::<T>()?;
                (map.get)(object)
                    .get(&key.parse().ok()?)
                    .map(|child| child as &dyn Any)
            }),
            get_mut: Box::new(move |object, key| {
                let object = object.downcast_mut::<T>()?;
                (map.get_mut)(object)
                    .get_mut(&key.parse().ok()?)
                    .map(|child| child as &mut dyn Any)
            }),
            list: Box::new(move |object| match object.downcast_ref::<T>() {
                Some(object) => (map.get)(object)
                    .iter()
                    .map(|(key, child)| (key.to_string(), line(key, child)))
                    .collect(),
                None => Vec::new(),
            }),
            printed: Box::new(|_| true),
        });
        self
    }

    /// Like [`Command::enter`], for an object that is there once: a field. `line` is `None` while there is no such object; an object that is
    /// not `worth_printing` is not printed.
    pub fn enter_field<C: Any>(
        mut self,
        mode: &'static str,
        field: Lens<T, C>,
        line: impl Fn(&C) -> Option<String> + Send + Sync + 'static,
        worth_printing: impl Fn(&C) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.enter = Some(Enter {
            mode,
            open: Box::new(|_, _| Ok(String::new())),
            get: Box::new(move |object, _| {
                object
                    .downcast_ref::<T>()
                    .map(|object| (field.get)(object) as &dyn Any)
            }),
            get_mut: Box::new(move |object, _| {
                object
                    .downcast_mut::<T>()
                    .map(|object| (field.get_mut)(object) as &mut dyn Any)
            }),
            list: Box::new(move |object| {
                let line = object
                    .downcast_ref::<T>()
                    .and_then(|object| line((field.get)(object)));
                line.map(|line| (String::new(), line)).into_iter().collect()
            }),
            printed: Box::new(move |object| {
                object
                    .downcast_ref::<T>()
                    .is_some_and(|object| worth_printing((field.get)(object)))
            }),
        });
        self
    }

    /// Orders the objects of a sub-mode otherwise than by their keys.
    pub fn sorted_by<S: Ord>(mut self, order: impl Fn(&T, &str) -> S + Send + Sync + 'static) -> Self {
        if let Some(enter) = &mut self.enter {
            let list = std::mem::replace(&mut enter.list, Box::new(|_| Vec::new()));
            enter.list = Box::new(move |object| {
                let mut entries = list(object);
                if let Some(object) = object.downcast_ref::<T>() {
                    entries.sort_by_key(|(key, _)| order(object, key));
                }
                entries
            });
        }
        self
    }

    /// Rewrites the lines that lead to the objects of a sub-mode: from the object they belong to, the key and the line.
    pub fn relabeled(mut self, label: impl Fn(&T, &str, String) -> String + Send + Sync + 'static) -> Self {
        if let Some(enter) = &mut self.enter {
            let list = std::mem::replace(&mut enter.list, Box::new(|_| Vec::new()));
            enter.list = Box::new(move |object| {
                let entries = list(object);
                let Some(object) = object.downcast_ref::<T>() else {
                    return entries;
                };
                let relabel = |(key, line): (String, String)| {
                    let line = label(object, &key, line);
                    (key, line)
                };
                entries.into_iter().map(relabel).collect()
            });
        }
        self
    }

    /// A setting with one parameter `value` and a default: sets the field; `no` and `default` bring the default back; printed when it differs.
    pub fn value<V>(syntax: &str, help: &'static str, field: Lens<T, V>, default: V) -> Self
    where
        V: FromStr + Display + Clone + PartialEq + Send + Sync + 'static,
    {
        let words = words_of(syntax);
        let (shown, initial) = (words.clone(), default.clone());
        Self::new(syntax, help)
            .undo(&words)
            .set(move |object, args| {
                *(field.get_mut)(object) = args.need("value")?;
                Ok(())
            })
            .unset(move |object, _| {
                *(field.get_mut)(object) = default.clone();
                Ok(())
            })
            .show(move |object, out| {
                let value = (field.get)(object);
                if *value != initial {
                    out.quoted(&shown, &value.to_string());
                }
            })
    }

    /// A setting with one parameter `value` that may be absent.
    pub fn optional<V>(syntax: &str, help: &'static str, field: Lens<T, Option<V>>) -> Self
    where
        V: FromStr + Display + 'static,
    {
        let words = words_of(syntax);
        let shown = words.clone();
        Self::new(syntax, help)
            .undo(&words)
            .set(move |object, args| {
                *(field.get_mut)(object) = Some(args.need("value")?);
                Ok(())
            })
            .unset(move |object, _| {
                *(field.get_mut)(object) = None;
                Ok(())
            })
            .show(move |object, out| {
                if let Some(value) = (field.get)(object) {
                    out.quoted(&shown, &value.to_string());
                }
            })
    }

    /// A switch: the command switches it on, `no` off, `default` to its default. Printed when it differs from that.
    pub fn flag(words: &'static str, help: &'static str, field: Lens<T, bool>, default: bool) -> Self {
        Self::new(words, help)
            .undo(words)
            .set(move |object, _| {
                *(field.get_mut)(object) = true;
                Ok(())
            })
            .unset(move |object, _| {
                *(field.get_mut)(object) = false;
                Ok(())
            })
            .reset(move |object, _| {
                *(field.get_mut)(object) = default;
                Ok(())
            })
            .show(move |object, out| match *(field.get)(object) {
                value if value == default => {}
                true => out.line(words),
                false => out.line(format!("no {words}")),
            })
    }

    /// A choice between keywords; `more` adds alternatives to the syntax, as for unsupported ones. `no` and `default` bring the default
    /// back; printed when it differs.
    pub fn choice<K: Keyword + Send + Sync>(
        words: &'static str,
        more: &str,
        help: &'static str,
        field: Lens<T, K>,
        default: K,
    ) -> Self {
        Self::new(format!("{words} {{{}{more}}}", K::alternatives()), help)
            .undo(words)
            .set(move |object, args| {
                *(field.get_mut)(object) = args.need_keyword()?;
                Ok(())
            })
            .unset(move |object, _| {
                *(field.get_mut)(object) = default;
                Ok(())
            })
            .show(move |object, out| {
                let value = *(field.get)(object);
                if value != default {
                    out.line(format!("{words} {}", value.keyword()));
                }
            })
    }
}

pub(crate) fn downcast_mut<T: Any>(object: &mut dyn Any) -> Result<&mut T, Error> {
    object
        .downcast_mut::<T>()
        .ok_or_else(|| Error::refused("this command does not belong to this mode"))
}

fn setter<T: Any>(set: impl Fn(&mut T, &Args<'_>) -> Result<(), Error> + Send + Sync + 'static) -> Setter {
    Box::new(move |object, args| set(downcast_mut::<T>(object)?, args))
}

/// The keywords before the first parameter; an unreadable syntax has none and is reported by the table.
fn words_of(syntax: &str) -> String {
    let node = syntax::parse(syntax).unwrap_or(Node::Sequence(Vec::new()));
    syntax::leading_words(&node).join(" ")
}
