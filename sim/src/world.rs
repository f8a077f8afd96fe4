//! The demo's world: three namespaces in a row, joined by two veth pairs.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd;

use netio::Namespace;
use rtnetlink::{LinkUnspec, LinkVeth, RouteMessageBuilder};

/// Addresses of the world; `examples/secgw.cfg` knows the gateway's.
pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 10, 0, 1);
/// The host behind the gateway.
pub(crate) const HOST: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 10);
/// The network behind the gateway.
pub(crate) const PROTECTED: &str = "172.16.0.0/24";
const GATEWAY_CORE: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 1);
const FIRST_ENODEB: Ipv4Addr = Ipv4Addr::new(10, 10, 0, 101);
/// Devices as `examples/secgw.cfg` names them.
const RAN: &str = "ran0";
const CORE: &str = "core0";
const PREFIX: u8 = 24;

/// The namespaces; gone when dropped and the processes in them have ended.
pub(crate) struct World {
    pub ran: Namespace,
    pub gateway: Namespace,
    pub core: Namespace,
    /// Outer addresses of the eNodeBs.
    pub enodebs: Vec<IpAddr>,
}

impl World {
    /// Builds it, with `enodebs` outer addresses (at most 100).
    pub(crate) fn build(enodebs: usize) -> Result<Self, String> {
        let text = |error: netio::Error| error.to_string();
        let ran = Namespace::create().map_err(text)?;
        let gateway = Namespace::create().map_err(text)?;
        let core = Namespace::create().map_err(text)?;
        let addresses: Vec<Ipv4Addr> = (0..u32::try_from(enodebs.clamp(1, 100)).unwrap_or(1))
            .map(|number| Ipv4Addr::from_bits(FIRST_ENODEB.to_bits() + number))
            .collect();
        join(&gateway, RAN, &ran)?;
        join(&gateway, CORE, &core)?;
        inside(&ran, async |handle| {
            configure(&handle, RAN, &addresses, None).await
        })?;
        inside(&core, async |handle| {
            configure(&handle, CORE, &[HOST], Some(GATEWAY_CORE)).await
        })?;
        Ok(Self {
            ran,
            gateway,
            core,
            enodebs: addresses.into_iter().map(IpAddr::from).collect(),
        })
    }
}

/// Makes a veth pair in `one`, both ends called `name`, and gives the far end to `other`.
fn join(one: &Namespace, name: &str, other: &Namespace) -> Result<(), String> {
    let far = format!("{name}far");
    let descriptor = other.as_raw_fd();
    inside(one, async |handle| {
        handle
            .link()
            .add(LinkVeth::new(name, &far).build())
            .execute()
            .await
            .map_err(text)?;
        let give = LinkUnspec::new_with_index(index(&far)?)
            .setns_by_fd(descriptor)
            .build();
        handle.link().set(give).execute().await.map_err(text)
    })?;
    inside(other, async |handle| {
        let rename = LinkUnspec::new_with_index(index(&far)?)
            .name(name.to_owned())
            .build();
        handle.link().set(rename).execute().await.map_err(text)
    })
}

async fn configure(
    handle: &rtnetlink::Handle,
    name: &str,
    addresses: &[Ipv4Addr],
    router: Option<Ipv4Addr>,
) -> Result<(), String> {
    for device in ["lo", name] {
        let up = LinkUnspec::new_with_index(index(device)?).up().build();
        handle.link().set(up).execute().await.map_err(text)?;
    }
    let device = index(name)?;
    for address in addresses {
        handle
            .address()
            .add(device, IpAddr::V4(*address), PREFIX)
            .execute()
            .await
            .map_err(text)?;
    }
    if let Some(router) = router {
        let route = RouteMessageBuilder::<Ipv4Addr>::new().gateway(router).build();
        handle.route().add(route).execute().await.map_err(text)?;
    }
    Ok(())
}

/// An error as text.
pub(crate) fn text(error: rtnetlink::Error) -> String {
    error.to_string()
}

/// The number of a device in the namespace of this thread.
pub(crate) fn index(name: &str) -> Result<u32, String> {
    nix::net::if_::if_nametoindex(name).map_err(|error| format!("device {name}: {error}"))
}

/// Does netlink work inside a namespace.
pub(crate) fn inside(
    namespace: &Namespace,
    work: impl AsyncFnOnce(rtnetlink::Handle) -> Result<(), String> + Send,
) -> Result<(), String> {
    let run = || -> Result<(), String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| error.to_string())?;
        runtime.block_on(async {
            let (connection, handle, _) = rtnetlink::new_connection().map_err(|error| error.to_string())?;
            tokio::spawn(connection);
            work(handle)
                .await
                .map_err(|error| format!("network set-up: {error}"))
        })
    };
    namespace.run(run).map_err(|error| error.to_string())?
}
