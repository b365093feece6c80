// A backend for nodes on one link: packets for a peer's subnet go to the peer's own address.
//
// Each call is a transaction of the host's: it is applied when the function returns, and not at all when it throws. What was declared
// for a peer is forgotten before the peer is handed over again, so there is nothing to delete.

import { external, isOnLink } from 'flannel:backend/links@0.1.0';
import { write as log } from 'flannel:backend/log@0.1.0';
import { put as putRoute } from 'flannel:backend/routes@0.1.0';

// The plugin's name, and the `Backend.Type` that it is for.
const NAME = 'example-host-gw';
const VERSION = '0.1.0';

/** Why a peer cannot be served; for the operator. */
class Unserved extends Error {}

let hasIpv4 = false;
let hasIpv6 = false;
// The external interface. Kept, since a handle that is made in each call is garbage in each call.
let link;

/** The functions that the host calls: `register` first, then `leaseAcquired`, then `apply` and `tick`. */
export const policy = {
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
      throw `the public address is not ${device.name}'s own: this backend cannot work through NAT`;
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
        // What the host has refused is for the operator to see.
        if (!(error instanceof Unserved)) throw error.payload?.val ?? String(error);
        rejections.push({ peer, reason: error.message });
      }
    }
    return rejections;
  },

  tick() {},
};

/** The options by name, in lower case: names match without regard to case. */
function options(config) {
  let read;
  try {
    read = JSON.parse(config);
  } catch (error) {
    throw `not JSON: ${error.message}`;
  }
  if (read === null || typeof read !== 'object' || Array.isArray(read)) {
    throw `${JSON.stringify(read)} is not a JSON object such as {"Key": 1}`;
  }
  return new Map(Object.entries(read).map(([name, value]) => [name.toLowerCase(), value]));
}

/** A whole number within bounds; `missing` stands for one that is absent or null. */
function number(options, name, least, most, missing) {
  const value = options.get(name.toLowerCase()) ?? missing;
  if (value === missing) return missing;
  if (!Number.isInteger(value) || value < least || value > most) {
    throw `${name}: ${JSON.stringify(value)} is not a whole number from ${least} to ${most}`;
  }
  return value;
}

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
    throw new Unserved(`${text(via)} is not on the link of ${link.name()}: this backend needs all nodes on one link`);
  }
  putRoute(peer, { destination, via, onlink: false }, link);
}

/** An address as people write it. */
function text({ tag, val }) {
  return tag === 'ipv4' ? val.join('.') : val.map((group) => group.toString(16)).join(':');
}
