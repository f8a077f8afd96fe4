//! Preparing a configuration: its secrets opened, the agent's sockets opened. Everything that waits for others, beside the loop.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use bus::link::Links;
use bus::messages::sct::RevealSecret;
use bus::{Address, Facility};
use command::Keyword;
use config::{Config, SecretText};
use task::Sit;
use telemetry::events::{self, Severity};
use tokio::net::UdpSocket;

use crate::settings::Settings;

/// How long `sct` may take over an answer.
const DEADLINE: Duration = Duration::from_secs(5);

/// Whom to ask.
#[derive(Clone)]
pub struct Loader {
    /// The link to `sct`, for secrets.
    pub links: Links,
    /// Who opens sockets.
    pub sit: Sit,
}

/// A configuration, ready to be applied.
pub struct Prepared {
    /// What it asks for.
    pub settings: Settings,
    /// Level of the log.
    pub log_level: Option<Severity>,
    /// The agent's sockets, when they are not the ones that are open.
    pub sockets: Option<Vec<UdpSocket>>,
}

impl Loader {
    /// Prepares a configuration. `open` is the port of the sockets that are open now.
    pub async fn prepare(self, config: Config, open: Option<u16>) -> Prepared {
        let mut revealed = HashMap::new();
        for secret in Settings::secrets(&config) {
            if let Some(plain) = self.reveal(&secret).await {
                revealed.insert(secret, plain);
            }
        }
        let settings = Settings::of(&config, |secret| revealed.get(secret).cloned());
        let wanted = settings.socket();
        let sockets = match wanted {
            _ if wanted == open => None,
            None => Some(Vec::new()),
            Some(port) => Some(self.open(port).await),
        };
        let log_level = Severity::from_name(config.logging.level(Facility::Snmp.name()).keyword());
        Prepared {
            settings,
            log_level,
            sockets,
        }
    }

    async fn reveal(&self, secret: &SecretText) -> Option<Vec<u8>> {
        let request = RevealSecret {
            sealed: secret.sealed().to_owned(),
        };
        match self
            .links
            .request(Address::only(Facility::Sct), &request, DEADLINE)
            .await
        {
            Ok(mut revealed) if revealed.failure.is_empty() => Some(std::mem::take(&mut revealed.secret)),
            Ok(revealed) => {
                tracing::error!("a community is not used: {}", revealed.failure);
                None
            }
            Err(error) => {
                tracing::error!("a community is not used: {error}");
                None
            }
        }
    }

    /// Sockets of both address families in the management context; those that can be had.
    async fn open(&self, port: u16) -> Vec<UdpSocket> {
        let mut sockets = Vec::new();
        let mut reason = String::new();
        for any in [
            IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        ] {
            let opened = self.sit.open_udp(config::LOCAL, Some(any), port, 0).await;
            let socket = opened.map_err(|error| error.to_string()).and_then(|descriptor| {
                let socket = std::net::UdpSocket::from(descriptor);
                socket
                    .set_nonblocking(true)
                    .and_then(|()| UdpSocket::from_std(socket))
                    .map_err(|error| error.to_string())
            });
            match socket {
                Ok(socket) => sockets.push(socket),
                Err(error) => reason = error,
            }
        }
        if sockets.is_empty() {
            events::emit(&events::SnmpSocketFailed {
                port,
                reason: &reason,
            });
        }
        sockets
    }
}
