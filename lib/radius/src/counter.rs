//! Everything that can happen between the client and one server, counted by cause.

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident => $auth:literal, $acct:literal;)*) => {
        /// A counter of one server. The strings are its variables in bulkstats schema `radius`, for an authentication and for an
        /// accounting server; several counters may add up in one variable, and an empty string means there is none.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Counter { $($(#[$doc])* $name,)* }

        impl Counter {
            /// Every counter.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Variable of an authentication server.
            pub const fn authentication_variable(self) -> &'static str {
                match self { $(Self::$name => $auth,)* }
            }

            /// Variable of an accounting server.
            pub const fn accounting_variable(self) -> &'static str {
                match self { $(Self::$name => $acct,)* }
            }
        }
    };
}

counters! {
    /// Requests sent, without repetitions.
    RequestsSent => "auth-req-sent", "acc-req-sent";
    /// Requests sent again after a timeout.
    RequestsRetried => "auth-req-retried", "acc-req-retried";
    /// Requests given up on this server after the last timeout.
    RequestTimeouts => "auth-timeout", "acc-req-timeout";
    /// Access-Challenges.
    ChallengesReceived => "auth-chal-rcvd", "";
    /// Access-Accepts.
    AcceptsReceived => "auth-acc-rcvd", "";
    /// Access-Rejects.
    RejectsReceived => "auth-rej-rcvd", "";
    /// Accounting-Responses.
    ResponsesReceived => "", "acc-rsp-rcvd";
    /// Replies whose Response Authenticator is wrong: another secret, or forged.
    BadAuthenticator => "auth-rsp-badauth", "acc-rsp-badresp";
    /// Replies to an Access-Request without Message-Authenticator.
    NoMessageAuthenticator => "auth-rsp-badauth", "";
    /// Replies whose Message-Authenticator is wrong.
    BadMessageAuthenticator => "auth-rsp-badauth", "acc-rsp-badresp";
    /// Datagrams that are no RADIUS packet.
    Malformed => "auth-rsp-malformed", "acc-rsp-malformed";
    /// Verified replies with a malformed attribute.
    MalformedAttribute => "auth-rsp-malformedattr", "acc-rsp-malformed";
    /// Packets of a type that is no reply to what was asked.
    UnknownType => "auth-rsp-unktype", "acc-rsp-unktype";
    /// Replies nobody waits for: late, duplicate, or never asked for.
    Dropped => "auth-rsp-dropped", "acc-rsp-dropped";
    /// Times the server was declared dead.
    DeclaredDead => "", "";
}

/// The values of all counters of one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counters([u64; Counter::ALL.len()]);

impl Counters {
    /// The value of one counter.
    pub fn get(&self, counter: Counter) -> u64 {
        self.0[counter as usize]
    }

    pub(crate) fn add(&mut self, counter: Counter) {
        self.0[counter as usize] += 1;
    }
}

impl Default for Counters {
    fn default() -> Self {
        Self([0; Counter::ALL.len()])
    }
}
