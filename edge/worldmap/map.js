'use strict';
// worldMap(element, options) draws cells and clients on a map of the world: equirectangular, so that
// x is the longitude and y the latitude. It puts two canvases into element: the lower has the
// coastline, drawn when the view changes; the upper has what is shown, drawn when that changes too.
//
// options:
//   outline    the path of an SVG, x = longitude, y = −latitude, in tenths of a degree
//   label      what a screen reader calls the map
//   viewed     (box) => {}, a while after the view has changed
//   picked     (client) => {}, a client was clicked, or Enter pressed on it
//   pointed    (text) => {}, what is under the pointer, in words; '' is nothing
//
// It returns an object with
//   show({cells: [[south, west, degrees, count], …], clients: [{id, label, lat, lon}, …]})
//   box()                  {south, west, north, east} in degrees
//   go(lat, lon, degrees)  the centre, and how many degrees of longitude to show; world() shows all
//   zoom(factor), mark(id) draws this client larger; '' draws none so
//   frames                 {count, longest, last}: times of drawing in milliseconds
//
// Colours are the element's custom properties --map-sea, --map-land, --map-coast, --map-grid,
// --map-ink, --map-halo, --map-heat, --map-dot, --map-mark. Keys on the focused map: arrows move,
// + and − zoom, 0 or Home shows the world, n and p go from client to client, Enter picks.
const worldMap = (element, options) => {
	const maxScale = 400000; // pixels per degree: some 4 pixels a metre
	const trailFor = 1500; // ms that a move stays drawn
	const maxLabels = 40; // clients in view up to which their names are written

	const canvas = () => element.appendChild(document.createElement('canvas'));
	const lower = canvas(), upper = canvas();
	lower.setAttribute('aria-hidden', 'true');
	upper.tabIndex = 0;
	upper.setAttribute('role', 'application');
	upper.setAttribute('aria-label', options.label ?? 'map');
	const below = lower.getContext('2d', { alpha: false }), above = upper.getContext('2d');
	const coast = new Path2D(options.outline);

	let width = 1, height = 1, dots = 1; // in CSS pixels; device pixels per CSS pixel
	let lat = 20, lon = 0, scale = 0; // scale 0: not yet sized
	let cells = [], clients = [], groups = [], most = 1;
	let places = new Map(); // id → [lat, lon] of the last show, to see moves
	let trails = []; // {fromLat, fromLon, lat, lon, since}
	let marked = '', colours = {}, family = 'sans-serif';
	let dirtyView = true, dirty = true, asked = 0, told = 0;
	const frames = { count: 0, longest: 0, last: 0 };

	const clamp = (x, low, high) => Math.min(Math.max(x, low), high);
	const x = (l) => width / 2 + (l - lon) * scale;
	const y = (l) => height / 2 - (l - lat) * scale;
	const box = () => ({
		south: clamp(lat - height / 2 / scale, -90, 90), north: clamp(lat + height / 2 / scale, -90, 90),
		west: clamp(lon - width / 2 / scale, -180, 180), east: clamp(lon + width / 2 / scale, -180, 180),
	});

	const draw = () => {
		asked = 0;
		const begun = performance.now();
		if (dirtyView) drawBelow();
		const moving = drawAbove(begun);
		dirtyView = dirty = false;
		frames.last = performance.now() - begun;
		frames.count++;
		frames.longest = Math.max(frames.longest, frames.last);
		if (moving) need();
	};
	const need = () => {
		dirty = true;
		asked ||= requestAnimationFrame(draw);
	};

	// moved redraws all, and tells of the new view once it has stood still for a moment.
	const moved = () => {
		const smallest = Math.min(width / 360, height / 180);
		scale = clamp(scale, smallest, maxScale);
		// What is larger than the canvas cannot be dragged out of it; what is smaller stays in the middle.
		const free = (half, size) => Math.max(0, half - size / 2 / scale);
		lon = clamp(lon, -free(180, width), free(180, width));
		lat = clamp(lat, -free(90, height), free(90, height));
		dirtyView = true;
		group();
		need();
		clearTimeout(told);
		told = setTimeout(() => options.viewed?.(box()), 150);
	};

	// group sums cells into blocks of at least 56 pixels, each of which has one number.
	const group = () => {
		const smallest = 56 / scale;
		const size = [1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 2, 5, 10, 15, 30, 60].find((d) => d >= smallest) ?? 90;
		const blocks = new Map();
		most = 1;
		for (const [south, west, degrees, count] of cells) {
			most = Math.max(most, count);
			const key = Math.floor((south + degrees / 2) / size) * 100000 + Math.floor((west + degrees / 2) / size);
			let b = blocks.get(key);
			if (!b) blocks.set(key, b = { lat: 0, lon: 0, count: 0 });
			b.lat += (south + degrees / 2) * count;
			b.lon += (west + degrees / 2) * count;
			b.count += count;
		}
		groups = [...blocks.values()].map((b) => ({ lat: b.lat / b.count, lon: b.lon / b.count, count: b.count }));
		groups.sort((a, b) => b.count - a.count);
	};

	const drawBelow = () => {
		const c = below;
		c.setTransform(dots, 0, 0, dots, 0, 0);
		c.fillStyle = colours.sea;
		c.fillRect(0, 0, width, height);
		c.save();
		c.translate(x(0), y(0));
		c.scale(scale / 10, scale / 10);
		c.fillStyle = colours.land;
		c.fill(coast, 'evenodd');
		c.strokeStyle = colours.coast;
		c.lineWidth = 10 / scale;
		c.lineJoin = 'round';
		c.stroke(coast);
		c.restore();
		// Lines of latitude and longitude at round numbers, 75 pixels apart or more.
		const step = [0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 45].find((s) => s * scale >= 75) ?? 90;
		const digits = Math.max(0, Math.ceil(-Math.log10(step) - 1e-9));
		const { south, west, north, east } = box();
		c.strokeStyle = colours.grid;
		c.fillStyle = colours.ink;
		c.lineWidth = 1;
		c.font = '10px ' + family;
		c.beginPath();
		const lines = (from, to, each) => {
			for (let i = Math.ceil(from / step - 1e-9); i <= Math.floor(to / step + 1e-9); i++) each(i * step);
		};
		const name = (value, plus, minus) => Math.abs(value).toFixed(digits) + '°' + (value > step / 2 ? plus : value < -step / 2 ? minus : '');
		c.textBaseline = 'bottom';
		c.textAlign = 'left';
		lines(west, east, (l) => {
			const at = Math.round(x(l)) + 0.5;
			c.moveTo(at, y(north));
			c.lineTo(at, y(south));
			if (at > 40 && at < width - 120) c.fillText(name(l, 'E', 'W'), at + 3, height - 3);
		});
		lines(south, north, (l) => {
			const at = Math.round(y(l)) + 0.5;
			c.moveTo(x(west), at);
			c.lineTo(x(east), at);
			if (at > 14 && at < height - 16) c.fillText(name(l, 'N', 'S'), 3, at - 2);
		});
		c.stroke();
		drawRuler(c);
	};

	// drawRuler draws how long a round number of kilometres is, along the middle of the map.
	const drawRuler = (c) => {
		const metres = 111195 * Math.max(Math.cos(lat * Math.PI / 180), 0.01) / scale; // per pixel
		let length = 10 ** Math.floor(Math.log10(90 * metres));
		length *= [5, 2, 1].find((n) => n * length <= 90 * metres);
		const long = length / metres, right = width - 8.5, bottom = height - 6.5;
		c.strokeStyle = c.fillStyle = colours.ink;
		c.beginPath();
		c.moveTo(right - long, bottom - 5);
		c.lineTo(right - long, bottom);
		c.lineTo(right, bottom);
		c.lineTo(right, bottom - 5);
		c.stroke();
		c.textAlign = 'right';
		c.textBaseline = 'bottom';
		c.fillText(length < 1000 ? length + ' m' : length / 1000 + ' km', right - 3, bottom - 5);
	};

	// short writes a number in at most four characters.
	const short = (n) => n < 1000 ? String(n) : n < 9950 ? (n / 1000).toFixed(1) + 'k' : n < 999500 ? Math.round(n / 1000) + 'k' :
		n < 9.95e6 ? (n / 1e6).toFixed(1) + 'M' : Math.round(n / 1e6) + 'M';

	const halo = (c, text, at, down) => {
		c.strokeText(text, at, down);
		c.fillText(text, at, down);
	};

	// drawAbove reports whether something still moves.
	const drawAbove = (now) => {
		const c = above;
		c.setTransform(dots, 0, 0, dots, 0, 0);
		c.clearRect(0, 0, width, height);
		c.fillStyle = colours.heat;
		const depth = Math.log(most + 1);
		for (const [south, west, degrees, count] of cells) {
			const size = degrees * scale, left = x(west), top = y(south + degrees);
			if (left > width || top > height || left + size < 0 || top + size < 0) continue;
			c.globalAlpha = (size < 4 ? 0.4 : 0.2) + 0.6 * Math.log(count + 1) / depth;
			if (size < 4) c.fillRect(left - 2 + size / 2, top - 2 + size / 2, 4, 4);
			else c.fillRect(left + 0.25, top + 0.25, size - 0.5, size - 0.5);
		}
		c.globalAlpha = 1;
		c.font = '600 11px ' + family;
		c.lineWidth = 3;
		c.lineJoin = 'round';
		c.strokeStyle = colours.halo;
		c.fillStyle = colours.ink;
		c.textAlign = 'center';
		c.textBaseline = 'middle';
		const taken = new Set(); // squares of 28 pixels that have a number: numbers do not overlap
		for (const g of groups) {
			const left = x(g.lon), top = y(g.lat);
			if (left < 0 || top < 0 || left > width || top > height) continue;
			const col = Math.floor(left / 28), row = Math.floor(top / 28);
			let free = true;
			for (let i = -1; i <= 1; i++) for (let j = -1; j <= 1; j++) free &&= !taken.has((row + i) * 10000 + col + j);
			if (!free) continue;
			taken.add(row * 10000 + col);
			halo(c, short(g.count), left, top);
		}
		const moving = drawTrails(c, now);
		drawClients(c, taken);
		return moving;
	};

	const drawTrails = (c, now) => {
		trails = trails.filter((t) => now - t.since < trailFor);
		c.strokeStyle = colours.mark;
		c.lineWidth = 2;
		for (const t of trails) {
			c.globalAlpha = clamp(1 - (now - t.since) / trailFor, 0, 1);
			c.beginPath();
			c.moveTo(x(t.fromLon), y(t.fromLat));
			c.lineTo(x(t.lon), y(t.lat));
			c.stroke();
			c.beginPath();
			c.arc(x(t.lon), y(t.lat), 4 + 6 * clamp((now - t.since) / trailFor, 0, 1), 0, 2 * Math.PI);
			c.stroke();
		}
		c.globalAlpha = 1;
		return trails.length > 0;
	};

	const drawClients = (c, taken) => {
		const seen = clients.filter((k) => Math.abs(x(k.lon) - width / 2) < width / 2 + 5 && Math.abs(y(k.lat) - height / 2) < height / 2 + 5);
		c.fillStyle = colours.dot;
		c.strokeStyle = colours.halo;
		c.lineWidth = 1;
		const radius = seen.length > 500 ? 2.5 : 4;
		for (const k of seen) {
			c.beginPath();
			c.arc(x(k.lon), y(k.lat), radius, 0, 2 * Math.PI);
			c.fill();
			c.stroke();
		}
		const own = seen.find((k) => k.id === marked);
		if (own) {
			c.strokeStyle = colours.mark;
			c.lineWidth = 3;
			c.beginPath();
			c.arc(x(own.lon), y(own.lat), 9, 0, 2 * Math.PI);
			c.stroke();
		}
		if (seen.length > maxLabels && !own) return;
		c.font = '12px ' + family;
		c.textAlign = 'left';
		c.textBaseline = 'middle';
		c.lineWidth = 3;
		c.strokeStyle = colours.halo;
		c.fillStyle = colours.ink;
		for (const k of own ? [own, ...seen] : seen) {
			if (k !== own && seen.length > maxLabels) break;
			const col = Math.floor(x(k.lon) / 28), row = Math.floor(y(k.lat) / 14);
			let free = true;
			for (let i = 0; i < 4; i++) free &&= !taken.has('c' + row + '.' + (col + i));
			if (!free) continue;
			for (let i = 0; i < 4; i++) taken.add('c' + row + '.' + (col + i));
			halo(c, k.label ?? k.id, x(k.lon) + 8, y(k.lat));
		}
	};

	const readColours = () => {
		const style = getComputedStyle(element);
		family = style.fontFamily;
		for (const name of ['sea', 'land', 'coast', 'grid', 'ink', 'halo', 'heat', 'dot', 'mark'])
			colours[name] = style.getPropertyValue('--map-' + name).trim() || '#888';
	};

	const resize = () => {
		const size = element.getBoundingClientRect();
		if (!size.width || !size.height) return; // not shown
		const first = scale === 0, whole = !first && scale <= Math.min(width / 360, height / 180) * 1.001;
		width = size.width;
		height = size.height;
		dots = Math.min(window.devicePixelRatio || 1, 2);
		for (const c of [lower, upper]) {
			c.width = Math.round(width * dots);
			c.height = Math.round(height * dots);
		}
		if (first || whole) scale = Math.min(width / 360, height / 180);
		moved();
	};

	// zoomAt changes the scale and keeps the place under a point where it is.
	const zoomAt = (factor, px, py) => {
		const l = lon + (px - width / 2) / scale, b = lat - (py - height / 2) / scale;
		scale = clamp(scale * factor, Math.min(width / 360, height / 180), maxScale);
		lon = l - (px - width / 2) / scale;
		lat = b + (py - height / 2) / scale;
		moved();
	};
	const zoom = (factor) => zoomAt(factor, width / 2, height / 2);
	const go = (toLat, toLon, degrees) => {
		lat = toLat;
		lon = toLon;
		if (degrees) scale = width / degrees;
		moved();
	};
	const world = () => go(0, 0, 1e9);

	// The pointers that are down: one drags, two zoom.
	const down = new Map();
	let dragged = 0;
	const at = (e) => {
		const r = upper.getBoundingClientRect();
		return [e.clientX - r.left, e.clientY - r.top];
	};
	const near = (px, py) => {
		let best = null, least = 12 ** 2;
		for (const k of clients) {
			const far = (x(k.lon) - px) ** 2 + (y(k.lat) - py) ** 2;
			if (far < least) [best, least] = [k, far];
		}
		return best;
	};
	const place = (l, plus, minus) => +Math.abs(l).toFixed(4) + '°' + (l < 0 ? minus : plus);
	const under = (px, py) => {
		const k = near(px, py);
		if (k) return k.label ?? k.id;
		const l = lon + (px - width / 2) / scale, b = lat - (py - height / 2) / scale;
		const cell = cells.find(([south, west, degrees]) => b >= south && b < south + degrees && l >= west && l < west + degrees);
		return cell ? `${cell[3].toLocaleString('en')} ${cell[3] === 1 ? 'client' : 'clients'} in the cell of ${cell[2]}° at ${place(cell[0], 'N', 'S')} ${place(cell[1], 'E', 'W')}` : '';
	};
	upper.addEventListener('pointerdown', (e) => {
		upper.setPointerCapture(e.pointerId);
		down.set(e.pointerId, at(e));
		if (down.size === 1) dragged = 0;
	});
	upper.addEventListener('pointermove', (e) => {
		const was = down.get(e.pointerId), is = at(e);
		if (!was) {
			options.pointed?.(under(...is));
			return;
		}
		if (down.size === 1) {
			dragged += Math.abs(is[0] - was[0]) + Math.abs(is[1] - was[1]);
			lon -= (is[0] - was[0]) / scale;
			lat += (is[1] - was[1]) / scale;
			moved();
		} else if (down.size === 2) {
			dragged = 1e9;
			const other = [...down].find(([id]) => id !== e.pointerId)[1];
			const apart = (a) => Math.max(Math.hypot(a[0] - other[0], a[1] - other[1]), 1);
			zoomAt(apart(is) / apart(was), (is[0] + other[0]) / 2, (is[1] + other[1]) / 2);
		}
		down.set(e.pointerId, is);
	});
	const up = (e) => {
		if (down.delete(e.pointerId) && e.type === 'pointerup' && dragged < 6) {
			const k = near(...at(e));
			if (k) options.picked?.(k);
		}
	};
	for (const name of ['pointerup', 'pointercancel', 'lostpointercapture']) upper.addEventListener(name, up);
	upper.addEventListener('pointerleave', () => options.pointed?.(''));
	upper.addEventListener('dblclick', (e) => zoomAt(2, ...at(e)));
	upper.addEventListener('wheel', (e) => {
		// Without focus the wheel scrolls the page.
		if (document.activeElement !== upper && !e.ctrlKey) return;
		e.preventDefault();
		zoomAt(Math.exp(-clamp(e.deltaMode ? e.deltaY * 20 : e.deltaY, -200, 200) / 300), ...at(e));
	}, { passive: false });

	const step = (by) => {
		if (!clients.length) return;
		const i = clients.findIndex((k) => k.id === marked);
		const k = clients[((i < 0 && by < 0 ? 0 : i) + by + clients.length) % clients.length];
		marked = k.id;
		options.pointed?.(k.label ?? k.id);
		need();
	};
	upper.addEventListener('keydown', (e) => {
		if (e.ctrlKey || e.metaKey || e.altKey) return;
		const pan = e.shiftKey ? 0.5 : 0.15;
		const act = {
			ArrowLeft: () => go(lat, lon - pan * width / scale), ArrowRight: () => go(lat, lon + pan * width / scale),
			ArrowUp: () => go(lat + pan * height / scale, lon), ArrowDown: () => go(lat - pan * height / scale, lon),
			'+': () => zoom(1.6), '=': () => zoom(1.6), '-': () => zoom(1 / 1.6), _: () => zoom(1 / 1.6), 0: world, Home: world,
			n: () => step(1), p: () => step(-1),
			Enter: () => {
				const k = clients.find((k) => k.id === marked);
				if (k) options.picked?.(k);
			},
		}[e.key];
		if (!act) return;
		e.preventDefault();
		act();
	});

	const recolour = () => {
		readColours();
		dirtyView = true;
		need();
	};
	readColours();
	new ResizeObserver(resize).observe(element);
	matchMedia('(prefers-color-scheme: dark)').addEventListener('change', recolour);

	return {
		box, go, world, zoom, frames,
		mark(id) {
			marked = id;
			need();
		},
		show(next) {
			const now = performance.now(), known = new Map();
			for (const k of next.clients ?? []) {
				const was = places.get(k.id);
				known.set(k.id, [k.lat, k.lon]);
				if (was && (was[0] !== k.lat || was[1] !== k.lon) && trails.length < 2000)
					trails.push({ fromLat: was[0], fromLon: was[1], lat: k.lat, lon: k.lon, since: now });
			}
			places = known;
			cells = next.cells ?? [];
			clients = next.clients ?? [];
			group();
			need();
		},
	};
};
