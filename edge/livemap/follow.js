'use strict';
// follow(address, hear) keeps who is inside an area, as an edge tells it to a WATCH over the
// WebSocket at address (docs/PROTOCOL.md, L and V2). It connects again by itself, and is meant to be copied into
// other pages.
//
// hear has
//   state(name, detail)  'connecting'; 'listing', it is connected and being told all; 'live', what it knows is
//                        what the edge knows; 'away' (detail: seconds until it tries again);
//                        'refused' or 'full', the edge does not take the watch, which is over
//   came(c), moved(c)    a client is inside, or is somewhere else; c: {id, lat, lon, edge, time}, time
//                        in ms since 1970
//   left(c, why)         it is not: 'left', 'forgotten' or 'missing' (after a reconnect, or another watch)
//
// It returns an object with inside, a Map from ids to clients; watch(what), with which it begins, and
// which replaces what is watched; and close().
const follow = (address, hear) => {
	const silence = 75_000; // ms without a word after which a connection is dead: `! STILL` comes each 30 s
	const soonest = 500, latest = 15_000; // ms until it tries again, twice as long each time
	const inside = new Map();
	let socket = null, what = '', name = '', watches = 0;
	let listed = null; // while the edge lists: who was in the list; else null
	let wait = soonest, again = 0, quiet = 0;

	// Ids are any bytes: a message that is not UTF-8 is binary, and each of its odd bytes is written \xNN.
	const text = (data) => typeof data === 'string' ? data :
		Array.from(new Uint8Array(data), (b) => b < 0x80 ? String.fromCharCode(b) : '\\x' + b.toString(16)).join('');

	// nanoseconds of a time or a skew, exact.
	const ns = (number) => {
		const [, sign, whole, fraction] = /^([+-]?)(\d*)\.?(\d*)$/.exec(number);
		const n = BigInt(whole || '0') * 1_000_000_000n + BigInt(fraction.padEnd(9, '0').slice(0, 9));
		return sign === '-' ? -n : n;
	};

	const parse = ([edge, skew, id, location, stamp]) => {
		const [, lat, lon] = /^([+-][\d.]+)([+-][\d.]+)$/.exec(location);
		const sent = ns(stamp), received = sent + ns(skew), most = received + 60_000_000_000n;
		return { id, edge, lat: Number(lat), lon: Number(lon), time: Number(sent / 1_000_000n), order: [sent < most ? sent : most, sent, received, location, edge] };
	};
	// newer says which of two positions of a client is (S2); two edges may know different ones.
	const newer = (a, b) => {
		const i = a.order.findIndex((x, i) => x !== b.order[i]);
		return i >= 0 && a.order[i] > b.order[i];
	};

	const drop = (id, why) => {
		const c = inside.get(id);
		if (inside.delete(id)) hear.left(c, why);
	};
	const take = (c) => {
		const had = inside.get(c.id);
		listed?.add(c.id);
		if (had && !newer(c, had)) return;
		inside.set(c.id, c);
		if (had) hear.moved(c);
		else hear.came(c);
	};

	const read = (line) => {
		const [mark, of, event, ...rest] = line.split(' ');
		if (mark === '?' && event === name) { // ? WATCH name …
			name = '';
			hear.state('refused');
		}
		if (mark !== '!' || of !== name) return; // ! STILL, or of a watch that was replaced
		if (event === 'IN' || event === 'AT') take(parse(rest));
		else if (event === 'OUT') drop(rest[2], rest[5]);
		else if (event === 'NOW') {
			for (const id of [...inside.keys()]) if (!listed.has(id)) drop(id, 'missing');
			listed = null;
			wait = soonest;
			hear.state('live');
		} else if (event === 'OFF' && rest[0] === 'full') {
			name = '';
			hear.state('full');
		} else if (event === 'OFF') socket.close(); // it stops, or this page was slow: begin anew
	};

	const ask = () => {
		const old = name;
		name = 'w' + ++watches;
		listed = new Set();
		hear.state('listing');
		socket.send((old && `UNWATCH ${old}\n`) + `WATCH ${name} ${what}`);
	};

	const connect = () => {
		clearTimeout(again);
		hear.state('connecting');
		const own = socket = new WebSocket(address);
		own.binaryType = 'arraybuffer';
		const heard = () => {
			clearTimeout(quiet);
			quiet = setTimeout(() => gone(), silence);
		};
		// A dead connection closes late, or never: nothing waits for that.
		const gone = () => {
			if (socket !== own) return;
			socket = null;
			own.close();
			clearTimeout(quiet);
			hear.state('away', wait / 1000);
			again = setTimeout(connect, wait * (0.75 + Math.random() / 2));
			wait = Math.min(2 * wait, latest);
		};
		heard();
		own.onopen = () => {
			heard();
			name = '';
			ask();
		};
		own.onmessage = ({ data }) => {
			if (socket !== own) return;
			heard();
			read(text(data));
		};
		own.onclose = gone;
	};

	return {
		inside,
		watch(next) {
			what = next;
			if (!socket) connect();
			else if (socket.readyState === WebSocket.OPEN) ask();
		},
		close() {
			clearTimeout(again);
			clearTimeout(quiet);
			const old = socket;
			socket = null;
			old?.close();
		},
	};
};
