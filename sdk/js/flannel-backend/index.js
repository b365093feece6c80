// What others write, read with care, and errors that are answered in words.

/** Why something is refused; for the operator. In `apply` it costs one peer, in other functions the call. Anything else that is thrown is a trap. */
export class Refused extends Error {}

/** For functions that the host calls: what they refuse, and what the host has refused them, is for the operator to see. */
export function inWords(policy) {
  const answered = (call) => (...given) => {
    try {
      return call(...given);
    } catch (error) {
      if (error instanceof Refused) throw error.message;
      // The host's refusals have a kind, too; the text is all that can be answered.
      throw error?.payload?.val ?? error;
    }
  };
  return Object.fromEntries(Object.entries(policy).map(([name, call]) => [name, answered(call)]));
}

/** The options by name, in lower case: names match without regard to case, and of several the last counts. For what peers publish, too. */
export function options(text) {
  let read;
  try {
    read = JSON.parse(text);
  } catch (error) {
    throw new Refused(`not JSON: ${error.message}`);
  }
  if (read === null || typeof read !== 'object' || Array.isArray(read)) {
    throw new Refused(`${JSON.stringify(read)} is not a JSON object such as {"Key": 1}`);
  }
  return new Map(Object.entries(read).map(([name, value]) => [name.toLowerCase(), value]));
}

/** A whole number within bounds; `missing` stands for one that is absent or null. */
export function number(options, name, least, most, missing) {
  const value = options.get(name.toLowerCase()) ?? missing;
  if (value === missing) return missing;
  if (!Number.isInteger(value) || value < least || value > most) {
    throw new Refused(`${name}: ${JSON.stringify(value)} is not a whole number from ${least} to ${most}`);
  }
  return value;
}

/** `true` or `false`; `missing` stands for one that is absent or null. */
export function boolean(options, name, missing) {
  const value = options.get(name.toLowerCase()) ?? missing;
  if (value !== missing && typeof value !== 'boolean') {
    throw new Refused(`${name}: ${JSON.stringify(value)} is neither true nor false`);
  }
  return value;
}

/** A text; `missing` stands for one that is absent or null. */
export function text(options, name, missing) {
  const value = options.get(name.toLowerCase()) ?? missing;
  if (value !== missing && typeof value !== 'string') {
    throw new Refused(`${name}: ${JSON.stringify(value)} is not a text in quotes`);
  }
  return value;
}

/** An address as people write it. */
export function address({ tag, val }) {
  return tag === 'ipv4' ? val.join('.') : val.map((group) => group.toString(16)).join(':');
}

/** An Ethernet address as people write it: `9e:01:c5:3f:00:0b`. */
export function macText(mac) {
  return mac.map((octet) => octet.toString(16).padStart(2, '0')).join(':');
}

/** An Ethernet address that somebody has written: `9e:01:c5:3f:00:0b`, with `-` for `:`, or `9e01.c53f.000b`. */
export function mac(written) {
  const forms = /^([0-9a-f]{2}(:[0-9a-f]{2}){5}|[0-9a-f]{2}(-[0-9a-f]{2}){5}|[0-9a-f]{4}(\.[0-9a-f]{4}){2})$/i;
  if (!forms.test(written)) {
    throw new Refused(`"${written}" is no Ethernet address; one looks like 9e:01:c5:3f:00:0b`);
  }
  return written.replace(/[:.-]/g, '').match(/../g).map((octet) => parseInt(octet, 16));
}
