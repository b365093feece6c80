import assert from 'node:assert/strict';
import test from 'node:test';

import { Refused, address, boolean, inWords, mac, macText, number, options, text } from './support.js';

const refused = (said) => (error) => error instanceof Refused && error.message === said;

test('a number is found by its name in any case and may be missing', () => {
  for (const [config, found] of [
    ['{}', 1500],
    ['{"MTU":null}', 1500],
    ['{"mtu":1280,"Other":{"MTU":[1]}}', 1280],
    ['{"M\\u0054U":1401}', 1401],
  ]) {
    assert.equal(number(options(config), 'MTU', 1280, 65535, 1500), found);
  }
});

test('what is wrong is named with what would be right', () => {
  for (const wrong of ['"1400"', '1279', '65536', '-1', '1400.5', 'true', '[]']) {
    const said = `MTU: ${wrong} is not a whole number from 1280 to 65535`;
    assert.throws(() => number(options(`{"MTU":${wrong}}`), 'MTU', 1280, 65535, 1500), refused(said));
  }
  for (const wrong of ['', '{', '[1]', 'null', 'nul']) {
    assert.throws(() => options(wrong), Refused);
  }
});

test('texts and truth are what they are and nothing else', () => {
  const given = options('{"Zone":"a","GBP":true,"Off":false,"None":null}');
  assert.deepEqual(['zone', 'None', 'Other'].map((name) => text(given, name)), ['a', undefined, undefined]);
  assert.deepEqual(['gbp', 'Off', 'None'].map((name) => boolean(given, name, true)), [true, false, true]);
  assert.throws(() => text(given, 'GBP'), refused('GBP: true is not a text in quotes'));
  assert.throws(() => boolean(given, 'Zone', false), refused('Zone: "a" is neither true nor false'));
});

test('of a name that comes twice the last counts', () => {
  assert.deepEqual([...options('{"VNI":1,"vni":2}')], [['vni', 2]]);
});

test('addresses of both families are written as people do', () => {
  assert.equal(address({ tag: 'ipv4', val: [10, 5, 3, 0] }), '10.5.3.0');
  assert.equal(address({ tag: 'ipv6', val: [0x2001, 0xdb8, 0, 0, 0, 0, 0, 9] }), '2001:db8:0:0:0:0:0:9');
});

test('an Ethernet address is read in each form that there is and in no other', () => {
  for (const written of ['9e:01:c5:3f:00:0b', '9E-01-C5-3F-00-0B', '9e01.c53f.000b']) {
    assert.equal(macText(mac(written)), '9e:01:c5:3f:00:0b');
  }
  for (const wrong of ['', 'x', '9e:01:c5:3f:00', '9e:01:c5:3f:00:0b:', '9e:01:c5-3f:00:0b', '9e01c53f000b', '9e:01:c5:3f:00:0g']) {
    assert.throws(() => mac(wrong), refused(`"${wrong}" is no Ethernet address; one looks like 9e:01:c5:3f:00:0b`));
  }
});

test('what is refused is answered in words, and what is not is thrown as it is', () => {
  const broken = new TypeError('broken');
  const policy = inWords({
    register() {
      throw new Refused('no luck');
    },
    apply() {
      // As the host's refusals come.
      throw Object.assign(new Error(), { payload: { tag: 'denied', val: 'not yours' } });
    },
    tick() {
      throw broken;
    },
    describe: (name) => name,
  });
  assert.throws(policy.register, (answer) => answer === 'no luck');
  assert.throws(policy.apply, (answer) => answer === 'not yours');
  assert.throws(policy.tick, (answer) => answer === broken);
  assert.equal(policy.describe('x'), 'x');
});
