/**
 * All texts of the pages, by part. A value is a string, or a function of named
 * parameters that returns one.
 *
 * Elements of the HTML files contain the English text and name it: data-text (the text),
 * data-label (aria-label), data-placeholder, data-content (of a meta element). Child
 * elements have a data-slot, and stand in the text as {slot}.
 *
 * A translation is a file strings.LANG.js that exports an object `strings` of the type
 * Translation, and an entry in language.js. What it lacks stays English.
 */

export const strings = {
  common: {},
  home: {},
  pairing: {},
  share: {},
  call: {},
  devices: {},
  send: {},
  receive: {},
  status: {
    badLink: {title: 'This link is incomplete', hint: 'Copy the whole link again, or start over from the start page.'},
    insecure: {title: 'This page is not on a secure connection', hint: 'Browsers only share a camera over HTTPS. Open the same address with https:// in front.'},
    unsupported: {title: 'This browser cannot make video calls', hint: 'Use a current version of Firefox, Chrome, Edge or Safari.'},
    supersededByTab: {title: 'Opened in another tab', hint: 'Only the newest tab with this link is active.'},
    supersededByDevice: {title: 'Opened on another device', hint: 'The device that was opened last is active.'},
    superseded: {title: 'Opened somewhere else', hint: 'The page that was opened last is active.'},
    offline: {title: 'This device is offline', hint: 'It reconnects automatically when the network is back.'},
    unreachable: {title: 'The server cannot be reached', hint: 'Retrying automatically.'},
    limited: {title: 'Too many requests', hint: 'The server asked this page to slow down. Retrying automatically.'},
    full: {title: 'The server is full', hint: 'Retrying automatically.'},
    stopping: {title: 'The server is restarting', hint: 'Retrying automatically.'},
    storeUnavailable: {title: 'The server cannot reach its store', hint: 'Its operator can see why. Retrying automatically.'},
    locked: {title: 'This room is in use with another secret', hint: 'Copy the whole link again, or start over from the start page.'},
    tooLarge: {title: 'This server accepts only small messages', hint: 'A call cannot be set up through it. Its operator can allow larger ones with -max-body-size.'},
    forbidden: {title: 'The server does not accept requests from this page', hint: 'Open the page at the server’s own address, or ask its operator to allow this address with -cors-origins.'},
    refused: {title: 'The server refused a request from this page', hint: 'Reload the page. If that does not help, tell the operator of the server.'},
    unexpected: {title: 'The server gave an unexpected answer', hint: 'Retrying automatically.'},
    intercepted: {title: 'Another page answers instead of the server', hint: 'It can be the sign-in page of a Wi-Fi network or of a proxy. Open a new tab to sign in. Retrying automatically.'},
    proxyLogin: {title: 'A proxy in front of the server asks for a login', hint: 'This page cannot answer it for /inbox and /ice. The operator of the proxy must protect the pages only.'},
    proxyRefused: {title: 'A proxy in front of the server refused a request', hint: 'The request did not reach the server. Reload the page. If that does not help, tell the operator.'},
    proxyTooLarge: {title: 'A proxy in front of the server accepts only small messages', hint: 'A call cannot be set up through it. Its operator can allow larger ones.'},
    proxyLimited: {title: 'A proxy in front of the server limits requests', hint: 'Retrying automatically.'},
    proxyFailed: {title: 'A proxy cannot reach the server', hint: 'Retrying automatically.'},
    unreadable: {title: 'A message of the other device cannot be decrypted', hint: 'Reload this page on both devices.'},
    rejectedServers: 'The server lists STUN or TURN servers that this browser rejects. The call is made without them.',
    relayUsedUp: 'The server has used up its relay traffic of this month. The call connects only over a direct path, such as the same Wi-Fi.',
    nextTry: (/** @type {{seconds: number}} */ {seconds}) => `Next try in ${seconds} s.`,
    useThisTab: 'Use this tab',
    useThisDevice: 'Use this device',
    deviceName: (/** @type {{browser: string, system: string}} */ {browser, system}) => `${browser} on ${system}`,
  },
  reason: {
    keepsTrying: 'This page keeps trying.',
    testPage: 'Test this device',
    retry: 'Try again now',
    reload: 'Reload the page',
    offline: {title: 'This device is offline', advice: 'Connect it to a network. The call resumes automatically.'},
    server: {title: 'The server cannot be reached', advice: 'A call needs it to begin. Check the network of this device, or ask the operator whether the server is running.'},
    silent: {title: 'The other device does not answer', advice: 'Its page is closed, asleep or offline. Wake it up, or open the link there again.'},
    blocked: {title: 'This browser blocks calls', advice: 'An extension, a VPN or a setting of this browser forbids direct connections. Turn it off for this page, or use another browser.'},
    noList: {title: 'The list of relays did not arrive', advice: 'Without it, only devices in the same Wi-Fi connect. Use the same Wi-Fi, or reload the page.'},
    monthUsed: {title: 'The relay has used up its month', advice: 'Connect both devices to the same Wi-Fi. Or ask the operator of this server to raise its monthly limit (-turn-month).'},
    otherOrigin: {title: 'No relay for this site', advice: 'Connect both devices to the same Wi-Fi. Or ask the operator of the server to list this site in -cors-origins.'},
    noRelay: {title: 'These networks do not connect directly', advice: 'Connect both devices to the same Wi-Fi, or one of them to another network. Or ask the operator of this server to turn on its relay (-turn).'},
    relayFull: {title: 'The relay is full', advice: 'Try again in some minutes, or connect both devices to the same Wi-Fi. If it lasts, tell the operator of this server.'},
    relayRefused: {title: 'The relay refused this device', advice: 'Reload the page. If that does not help, connect both devices to the same Wi-Fi, and tell the operator of this server.'},
    relayRejected: {title: 'This browser rejects the relay', advice: 'Connect both devices to the same Wi-Fi. The operator of this server must correct its list of servers (-ice-servers).'},
    relayUnreachable: {title: 'This network blocks the call', advice: 'A firewall or a VPN probably drops it. Turn off the VPN, use the same Wi-Fi for both devices, or another network, such as mobile data. Or ask the operator of this server whether its relay is running.'},
    relayBroken: {title: 'The relay passes no data', advice: 'Connect both devices to the same Wi-Fi, or try another network. If it lasts, tell the operator of this server.'},
    remoteNetwork: {title: 'The other network blocks the call', advice: 'This device reaches the relay, the other one does not. Turn off the VPN there, use the same Wi-Fi for both devices, or another network.'},
    testing: {title: 'No connection yet', advice: 'Looking for the reason.'},
    unexplained: {title: 'The call does not connect', advice: 'Both devices reach the relay, but nothing passes. Reload both pages. If that does not help, turn off a VPN, or try another network.'},
    tried: (/** @type {{list: string}} */ {list}) => `Tried: ${list}.`,
    direct: 'a direct path',
    notOffered: (/** @type {{list: string}} */ {list}) => `The server does not offer ${list}.`,
    neither: 'STUN or a relay (TURN)',
    noStun: 'STUN',
    noTurn: 'a relay (TURN)',
    kinds: {'stun': 'STUN', 'turn-udp': 'relay over UDP', 'turn-tcp': 'relay over TCP', 'turn-tls': 'relay over TLS'},
    found: {
      ok: (/** @type {{kind: string}} */ {kind}) => `${kind} (works)`,
      answered: (/** @type {{kind: string}} */ {kind}) => `${kind} (answers)`,
      refused: (/** @type {{kind: string, code: number}} */ {kind, code}) => `${kind} (refused, error ${code})`,
      rejected: (/** @type {{kind: string}} */ {kind}) => `${kind} (rejected by this browser)`,
      unreachable: (/** @type {{kind: string}} */ {kind}) => `${kind} (no answer)`,
      noPath: (/** @type {{kind: string}} */ {kind}) => `${kind} (answers, but passes no data)`,
      pending: (/** @type {{kind: string}} */ {kind}) => `${kind} (being tested)`,
      untested: (/** @type {{kind: string}} */ {kind}) => `${kind} (not tested)`,
    },
  },
  test: {},
  notFound: {
    title: 'No such page · inbox',
    description: 'This page does not exist.',
    heading: 'There is no such page.',
    lead: 'The address might be incomplete. Go to the {start}.',
    start: 'start page',
  },
};

/**
 * A translation of the texts: the same object, and every part of it can be missing.
 * @typedef {Partially<typeof strings>} Translation
 */
/**
 * @template T
 * @typedef {{[K in keyof T]?: T[K] extends (...args: infer A) => string ? (...args: A) => string
 *   : T[K] extends string ? string : Partially<T[K]>}} Partially
 */

// Modules that import the texts wait here, so that they only see translated ones.
const lang = globalThis.document?.documentElement.lang || 'en';
if (lang !== 'en') await (await import('./localize.js')).localize(strings, lang);
