/** Why something is refused; for the operator. In `apply` it costs one peer, in other functions the call. */
export class Refused extends Error {}

/** For functions that the host calls: what they refuse, and what the host has refused them, is for the operator to see. */
export function inWords<Policy extends object>(policy: Policy): Policy;

/** Options by name, in lower case. */
export type Options = ReadonlyMap<string, unknown>;

/** The options of a network config's `Backend`, or of what a peer publishes. Throws `Refused` for what is no JSON object. */
export function options(text: string): Options;

/** A whole number from `least` to `most`; `missing` stands for one that is absent or null. */
export function number(options: Options, name: string, least: number, most: number): number | undefined;
export function number<Missing>(options: Options, name: string, least: number, most: number, missing: Missing): number | Missing;

/** `true` or `false`; `missing` stands for one that is absent or null. */
export function boolean(options: Options, name: string): boolean | undefined;
export function boolean<Missing>(options: Options, name: string, missing: Missing): boolean | Missing;

/** A text; `missing` stands for one that is absent or null. */
export function text(options: Options, name: string): string | undefined;
export function text<Missing>(options: Options, name: string, missing: Missing): string | Missing;

/** `ip-address` of the contract: four octets, or eight groups. */
export type Address = { tag: 'ipv4'; val: number[] } | { tag: 'ipv6'; val: number[] };

/** An address as people write it. */
export function address(address: Address): string;

/** An Ethernet address as people write it: `9e:01:c5:3f:00:0b`. */
export function macText(mac: number[]): string;

/** An Ethernet address that somebody has written: `9e:01:c5:3f:00:0b`, with `-` for `:`, or `9e01.c53f.000b`. */
export function mac(written: string): number[];
