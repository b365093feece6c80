// What docs/languages.md shows of a backend in JavaScript: nodes reach each other by VXLAN, and each counts its starts.

import { put as putFdb } from 'flannel:backend/fdb@0.1.0';
import { ensureVxlan } from 'flannel:backend/links@0.1.0';
import { write as log } from 'flannel:backend/log@0.1.0';
import { put as putNeighbour } from 'flannel:backend/neighbours@0.1.0';
import { put as putRoute } from 'flannel:backend/routes@0.1.0';
import { get as getState, set as setState } from 'flannel:backend/state@0.1.0';
import { Refused, inWords, mac, macText, number, options, text } from './support.js';

const NAME = 'tour';
// Bytes that VXLAN adds to a packet.
const OVERHEAD = 50;

// A handle stays valid for as long as the plugin runs.
let vtep;

export const policy = inWords({
  describe() {
    return { name: NAME, version: '0.1.0', backendTypes: [NAME] };
  },

  register(node, config) {
    if (node.external.ipv4 === undefined) {
      throw new Refused('tour tunnels IPv4, which this cluster does not have');
    }
    const vni = number(options(config), 'VNI', 1, 16777215, 1);
    countStart();
    const mtu = node.external.mtu - OVERHEAD;
    vtep = ensureVxlan({ name: `flannel.${vni}`, vni, family: 'ipv4', learning: false, gbp: false, mtu });
    const backendData = JSON.stringify({ VNI: vni, VtepMAC: macText(vtep.mac()) });
    return { backendType: NAME, backendData, mtu };
  },

  leaseAcquired({ ipv4Subnet }) {
    vtep.setAddresses(ipv4Subnet ? [{ tag: 'ipv4', val: { address: ipv4Subnet.address, length: 32 } }] : []);
  },

  apply(changes) {
    const rejections = [];
    for (const { tag, val } of changes) {
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

/** Counts this start in the durable store, and says it in the log. */
function countStart() {
  const stored = getState('starts');
  const starts = (stored ? Number(String.fromCharCode(...stored)) || 0 : 0) + 1;
  setState('starts', Uint8Array.from(String(starts), (digit) => digit.charCodeAt(0)));
  log('info', 'started', [['starts', String(starts)]]);
}

/** Declares what a peer needs. */
function put(peer, lease) {
  const { ipv4Subnet, publicIpv4 } = lease;
  if (lease.backendType !== NAME || !ipv4Subnet || !publicIpv4) return;
  const written = text(options(lease.backendData ?? '{}'), 'VtepMAC');
  if (written === undefined) throw new Refused('there is no VtepMAC');
  const gateway = { tag: 'ipv4', val: ipv4Subnet.address };
  putRoute(peer, { destination: { tag: 'ipv4', val: ipv4Subnet }, via: gateway, onlink: true }, vtep);
  putFdb(peer, mac(written), { tag: 'ipv4', val: publicIpv4 }, vtep);
  putNeighbour(peer, gateway, mac(written), vtep);
}
