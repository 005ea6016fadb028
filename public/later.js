/** The parts of the pages of a room that are loaded when the rest of the page works. */

export {CallWatch} from './call-watch.js';
export {bindInvitation} from './invitation.js';
export {refusalOf} from './refusal.js';
export {ObservedPeer} from './observed-peer.js';
export {StatsView} from './stats-view.js';
