// A backend for nodes on one link: packets for a peer's subnet go to the peer's own address.
//
// Each call is a transaction of the host's: it is applied when the function returns, and not at all when it throws. What was declared
// for a peer is forgotten before the peer is handed over again, so there is nothing to delete.

import { external, isOnLink } from 'flannel:backend/links@0.1.0';
import { write as log } from 'flannel:backend/log@0.1.0';
import { put as putRoute } from 'flannel:backend/routes@0.1.0';
import { Refused, address, inWords, number, options } from './support.js';

// The plugin's name, and the `Backend.Type` that it is for.
const NAME = 'example-host-gw';
const VERSION = '0.1.0';

let hasIpv4 = false;
let hasIpv6 = false;
// The external interface. Kept, since a handle that is made in each call is garbage in each call.
let link;

/** The functions that the host calls: `register` first, then `leaseAcquired`, then `apply` and `tick`. Each may throw `Refused`. */
export const policy = inWords({
  describe() {
    return { name: NAME, version: VERSION, backendTypes: [NAME] };
  },

  register(node, config) {
    link = external();
    const device = node.external;
    hasIpv4 = node.ipv4Network !== undefined;
    hasIpv6 = node.ipv6Network !== undefined;
    const differs = (one, other) => String(one) !== String(other);
    if ((hasIpv4 && differs(device.ipv4, node.publicIpv4)) || (hasIpv6 && differs(device.ipv6, node.publicIpv6))) {
      // Peers send to the public address: behind NAT, nothing would listen there.
      throw new Refused(`the public address is not ${device.name}'s own: this backend cannot work through NAT`);
    }
    // An example of an option, "Backend": {"Type": "example-host-gw", "MTU": 1400}: what is wrong with it is said by `number`.
    const mtu = number(options(config), 'MTU', 1280, 65535, device.mtu);
    return { backendType: NAME, mtu: Math.min(mtu, device.mtu) };
  },

  leaseAcquired(_nodeLease) {
    // No device of its own, so no address to put anywhere.
  },

  apply(changes) {
    const rejections = [];
    for (const { tag, val } of changes) {
      // The entries of a peer that is gone go without us.
      if (tag !== 'put') continue;
      const [peer, lease] = val;
      try {
        put(peer, lease);
      } catch (error) {
        if (!(error instanceof Refused)) throw error;
        rejections.push({ peer, reason: error.message });
      }
    }
    return rejections;
  },

  tick() {},
});

/** Declares what a peer needs. */
function put(peer, lease) {
  if (lease.backendType !== NAME) {
    log('debug', 'ignoring a peer of another backend', [['type', lease.backendType]]);
    return;
  }
  if (hasIpv4 && lease.ipv4Subnet && lease.publicIpv4) {
    reach(peer, { tag: 'ipv4', val: lease.ipv4Subnet }, { tag: 'ipv4', val: lease.publicIpv4 });
  }
  if (hasIpv6 && lease.ipv6Subnet && lease.publicIpv6) {
    reach(peer, { tag: 'ipv6', val: lease.ipv6Subnet }, { tag: 'ipv6', val: lease.publicIpv6 });
  }
}

/** Declares the route to a peer's subnet. */
function reach(peer, destination, via) {
  if (!isOnLink(via)) {
    // When this changes, the host asks again.
    throw new Refused(`${address(via)} is not on the link of ${link.name()}: this backend needs all nodes on one link`);
  }
  putRoute(peer, { destination, via, onlink: false }, link);
}
