'use strict';
// herdGraph(svg) draws edges and the links between them. It returns an object with
//   show({edges: [{name, kind, words, note, parts, href}], links: [{a, b, kind, words, forth, back, note, parts}]})
// kind is ok, warning, down, silent or unknown: each has its own colour, shape and line. forth and
// back say what goes from a to b and from b to a; words stands there where the link is not up.
//
// Places come from the graph alone, so that two pages show the same picture and a page shows
// the same one again: distances on the paper follow those in the graph (multidimensional scaling, then
// stress majorization); then boxes are moved apart. Only what changed is drawn.
const herdGraph = (svg) => {
	const make = (parent, name, attributes = {}) => {
		const e = document.createElementNS('http://www.w3.org/2000/svg', name);
		for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v);
		return parent.appendChild(e);
	};
	const set = (e, name, value) => {
		value = String(value);
		if (e.getAttribute(name) !== value) e.setAttribute(name, value);
	};
	const write = (e, text) => {
		if (e.textContent !== text) e.textContent = text;
	};
	const cut = (text, n) => text.length > n ? text.slice(0, n - 1) + '…' : text;

	// distances counts the links between all pairs of edges; parts that no path joins are far apart.
	const distances = (n, links) => {
		const near = Array.from({ length: n }, () => []);
		for (const [a, b] of links) {
			near[a].push(b);
			near[b].push(a);
		}
		return near.map((_, from) => {
			const d = new Array(n).fill(Infinity), queue = [from];
			d[from] = 0;
			for (let i = 0; i < queue.length; i++)
				for (const to of near[queue[i]]) if (d[to] === Infinity) {
					d[to] = d[queue[i]] + 1;
					queue.push(to);
				}
			return d.map((x) => x === Infinity ? Math.max(3, Math.sqrt(n)) : x);
		});
	};

	// axes returns the two directions in which the points of a matrix of distances differ most.
	const axes = (d) => {
		const n = d.length, squares = d.map((r) => r.map((v) => v * v));
		const means = squares.map((r) => r.reduce((a, b) => a + b, 0) / n), mean = means.reduce((a, b) => a + b, 0) / n;
		const m = squares.map((r, i) => r.map((v, j) => (means[i] + means[j] - mean - v) / 2));
		const found = [];
		for (const seed of [1, 2.399]) {
			let v = Array.from({ length: n }, (_, i) => Math.cos(seed * (i + 1))), value = 0;
			for (let round = 0; round < 100; round++) {
				for (const f of found) {
					const along = f.reduce((s, x, i) => s + x * v[i], 0);
					v = v.map((x, i) => x - along * f[i]);
				}
				const next = m.map((r) => r.reduce((s, x, i) => s + x * v[i], 0));
				value = Math.hypot(...next);
				if (value < 1e-9) break;
				v = next.map((x) => x / value);
			}
			found.push(v);
			v.size = Math.sqrt(value);
		}
		return found;
	};

	// spread places n points so that distances are as in the graph, within reason.
	const spread = (n, links) => {
		const d = distances(n, links), [u, v] = axes(d);
		let p = Array.from({ length: n }, (_, i) => [u[i] * u.size + 1e-3 * i, v[i] * v.size + 1e-3 * (i % 7)]);
		for (let round = 0; round < 80; round++) {
			p = p.map(([x, y], i) => {
				let sx = 0, sy = 0, weights = 0;
				for (let j = 0; j < n; j++) {
					if (i === j) continue;
					const w = 1 / d[i][j] ** 2, dx = x - p[j][0], dy = y - p[j][1], far = Math.sqrt(dx * dx + dy * dy) || 1e-6;
					sx += w * (p[j][0] + d[i][j] * dx / far);
					sy += w * (p[j][1] + d[i][j] * dy / far);
					weights += w;
				}
				return weights ? [sx / weights, sy / weights] : [0, 0];
			});
		}
		return p;
	};

	// turn makes the longest extent lie along the longer side, the first name left of the middle and
	// above it.
	const turn = (p, wide) => {
		const n = p.length, mx = p.reduce((s, q) => s + q[0], 0) / n, my = p.reduce((s, q) => s + q[1], 0) / n;
		let xx = 0, yy = 0, xy = 0;
		for (const [x, y] of p) {
			xx += (x - mx) ** 2;
			yy += (y - my) ** 2;
			xy += (x - mx) * (y - my);
		}
		let angle = Math.atan2(2 * xy, xx - yy) / 2;
		if (!wide) angle -= Math.PI / 2;
		const cos = Math.cos(-angle), sin = Math.sin(-angle);
		p = p.map(([x, y]) => [(x - mx) * cos - (y - my) * sin, (x - mx) * sin + (y - my) * cos]);
		const first = p.find(([x]) => Math.abs(x) > 1e-3), over = p.find(([, y]) => Math.abs(y) > 1e-3);
		return p.map(([x, y]) => [first && first[0] > 0 ? -x : x, over && over[1] > 0 ? -y : y]);
	};

	// fit puts points into a box and moves their nodes apart, from each other and from links that are
	// not theirs. It reports whether no two nodes overlap.
	const fit = (p, links, sizes, width, height) => {
		const range = (k) => [Math.min(...p.map((q) => q[k])), Math.max(...p.map((q) => q[k]))];
		const [x0, x1] = range(0), [y0, y1] = range(1);
		const place = (v, low, high, size, most) => high - low < 1e-6 ? most / 2 : size / 2 + (v - low) / (high - low) * (most - size);
		const widest = Math.max(...sizes.map((s) => s[0])) + 4, tall = sizes[0][1] + 4;
		const q = p.map(([x, y]) => [place(x, x0, x1, widest, width), place(y, y0, y1, tall, height)]);
		let apart = false;
		for (let round = 0; round < 300 && !apart; round++) {
			apart = true;
			for (let i = 0; i < q.length; i++) for (let j = i + 1; j < q.length; j++) {
				const gapX = (sizes[i][0] + sizes[j][0]) / 2 + 18 - Math.abs(q[i][0] - q[j][0]);
				const gapY = (sizes[i][1] + sizes[j][1]) / 2 + 16 - Math.abs(q[i][1] - q[j][1]);
				if (gapX <= 0.5 || gapY <= 0.5) continue;
				apart = false;
				const k = gapX * tall < gapY * widest ? 0 : 1, by = (k ? gapY : gapX) / 2 + 0.5, sign = q[i][k] <= q[j][k] ? 1 : -1;
				q[i][k] -= sign * by;
				q[j][k] += sign * by;
			}
			if (round < 200) for (const [a, b] of links) for (let i = 0; i < q.length; i++) {
				if (i === a || i === b) continue;
				const dx = q[b][0] - q[a][0], dy = q[b][1] - q[a][1], long = Math.sqrt(dx * dx + dy * dy) || 1;
				const t = ((q[i][0] - q[a][0]) * dx + (q[i][1] - q[a][1]) * dy) / long ** 2;
				if (t <= 0 || t >= 1) continue;
				const off = ((q[i][0] - q[a][0]) * -dy + (q[i][1] - q[a][1]) * dx) / long;
				const free = (sizes[i][0] * Math.abs(dy) + sizes[i][1] * Math.abs(dx)) / long / 2 + 6;
				if (Math.abs(off) >= free) continue;
				const by = Math.min((free - Math.abs(off)) / 2, 8) * (off < 0 ? -1 : 1);
				q[i][0] += -dy / long * by;
				q[i][1] += dx / long * by;
			}
			for (let i = 0; i < q.length; i++) {
				q[i][0] = Math.min(Math.max(q[i][0], sizes[i][0] / 2 + 6), width - sizes[i][0] / 2 - 6);
				q[i][1] = Math.min(Math.max(q[i][1], sizes[i][1] / 2 + 6), height - sizes[i][1] / 2 - 6);
			}
		}
		return [q, apart];
	};

	let drawn = '', seen = null, width = 0;
	let nodes = new Map(), lines = new Map();

	const shapes = {
		ok: 'M-6 0a6 6 0 1 0 12 0a6 6 0 1 0 -12 0z', warning: 'M0 -7L7.5 6H-7.5z', down: 'M-6 -6H6V6H-6z',
		silent: 'M-6 0a6 6 0 1 0 12 0a6 6 0 1 0 -12 0z', unknown: 'M0 -7L7 0L0 7L-7 0z',
	};
	const signs = { ok: 'M-2.8 0.2L-0.8 2.4L3 -2.4', warning: 'M0 -3V1.6M0 3.4V4', down: 'M-3 -3L3 3M3 -3L-3 3', silent: 'M-2.6 0H2.6', unknown: '' };

	const build = (state) => {
		const { edges, links } = state;
		svg.replaceChildren();
		nodes = new Map();
		lines = new Map();
		const n = edges.length;
		if (!n) return;
		// Nodes have three lines, two, or one, by how much room there is.
		const tall = n > 14 || (width < 560 && n > 8) ? 1 : width < 560 && n > 2 ? 2 : 3, small = tall === 1;
		const sizes = edges.map((e) => [
			small ? Math.min(Math.max(cut(e.name, 16).length * 6.6 + 32, 64), 140) : Math.min(Math.max(cut(e.name, 18).length * 8 + 40, tall === 2 ? 138 : 148), 186),
			[0, 24, 43, 57][tall]]);
		const at = new Map(edges.map((e, i) => [e.name, i]));
		const pairs = links.filter((l) => at.has(l.a) && at.has(l.b)).map((l) => [at.get(l.a), at.get(l.b)]);
		const points = spread(n, pairs);
		let height = n === 1 ? 90 : n === 2 ? 120 : small ? 260 + n * 4 : tall === 2 ? 120 + n * 50 : Math.max(250, 150 + n * 34);
		let places, apart;
		do {
			[places, apart] = fit(turn(points, width >= height), pairs, sizes, width, height);
			height *= apart ? 1 : 1.2;
		} while (!apart && height < 5000);
		set(svg, 'viewBox', `0 0 ${width} ${Math.ceil(height)}`);
		set(svg, 'width', width);
		set(svg, 'height', Math.ceil(height));

		const under = make(svg, 'g'), labels = make(svg, 'g'), over = make(svg, 'g');
		const taken = places.map(([x, y], i) => [x - sizes[i][0] / 2, y - sizes[i][1] / 2, x + sizes[i][0] / 2, y + sizes[i][1] / 2]);
		const labelled = links.length <= 24;
		for (const l of links) {
			const a = places[at.get(l.a)], b = places[at.get(l.b)];
			if (!a || !b) continue;
			const ends = { x1: a[0].toFixed(1), y1: a[1].toFixed(1), x2: b[0].toFixed(1), y2: b[1].toFixed(1) };
			const g = make(under, 'g'), line = { g, wide: make(g, 'line', ends), thin: make(g, 'line', { ...ends, class: 'thin' }), title: make(g, 'title') };
			line.text = make(labels, 'g');
			line.back = make(line.text, 'rect', { rx: 3 });
			line.one = make(line.text, 'text', { 'text-anchor': 'middle' });
			line.two = make(line.text, 'text', { 'text-anchor': 'middle' });
			// The label stands on the line where nothing else is.
			const half = [52, 15];
			line.free = false;
			for (const t of [0.5, 0.42, 0.58, 0.35, 0.65, 0.28, 0.72]) {
				const x = a[0] + (b[0] - a[0]) * t, y = a[1] + (b[1] - a[1]) * t;
				const box = [x - half[0], y - half[1], x + half[0], y + half[1]];
				if (taken.some((o) => box[0] < o[2] && box[2] > o[0] && box[1] < o[3] && box[3] > o[1])) continue;
				taken.push(box);
				line.at = [x, y];
				line.free = true;
				break;
			}
			line.at ??= [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2];
			line.labelled = labelled && line.free;
			// Which way an arrow points that goes from a to b.
			const flat = Math.abs(a[0] - b[0]) >= Math.abs(a[1] - b[1]);
			line.arrows = flat ? (a[0] <= b[0] ? '→←' : '←→') : (a[1] <= b[1] ? '↓↑' : '↑↓');
			set(line.back, 'x', (line.at[0] - half[0]).toFixed(1));
			set(line.back, 'y', (line.at[1] - half[1]).toFixed(1));
			set(line.back, 'width', 2 * half[0]);
			set(line.back, 'height', 2 * half[1]);
			for (const [t, dy] of [[line.one, -3], [line.two, 10]]) {
				set(t, 'x', line.at[0].toFixed(1));
				set(t, 'y', (line.at[1] + dy).toFixed(1));
			}
			lines.set(l.a + '-' + l.b, line);
		}
		edges.forEach((e, i) => {
			const [w, h] = sizes[i], [x, y] = places[i];
			const link = make(over, 'a', { href: e.href ?? '#', transform: `translate(${(x - w / 2).toFixed(1)} ${(y - h / 2).toFixed(1)})` });
			const node = { link, small, title: make(link, 'title') };
			node.outer = make(link, 'rect', { class: 'outer', x: -4, y: -4, width: w + 8, height: h + 8, rx: 9 });
			node.box = make(link, 'rect', { class: 'box', width: w, height: h, rx: 6 });
			const mark = make(link, 'g', { class: 'mark', transform: `translate(${small ? 14 : 17} ${small ? 12 : 17})` });
			node.shape = make(mark, 'path', { class: 'shape' });
			node.sign = make(mark, 'path', { class: 'sign' });
			node.name = make(link, 'text', { class: 'name', x: small ? 26 : 31, y: small ? 16 : 21 });
			if (!small) {
				node.words = make(link, 'text', { class: 'words', x: 12, y: 37 });
				if (tall === 3) node.note = make(link, 'text', { class: 'note', x: 12, y: 49 });
			}
			nodes.set(e.name, node);
		});
	};

	const update = ({ edges, links }) => {
		for (const e of edges) {
			const node = nodes.get(e.name);
			set(node.link, 'class', 'node ' + e.kind + (e.parts ? ' parts' : ''));
			set(node.shape, 'd', shapes[e.kind] ?? shapes.unknown);
			set(node.sign, 'd', signs[e.kind] ?? '');
			write(node.name, cut(e.name, node.small ? 16 : 18));
			const parts = e.parts ? 'its loss parts the herd' : '';
			if (!node.small) {
				write(node.words, cut(e.words, node.note ? 28 : 22));
				if (node.note) write(node.note, cut(parts && e.kind === 'ok' ? parts : e.note, 30));
			}
			write(node.title, [e.name + ': ' + e.words, e.note, parts].filter(Boolean).join('\n'));
			set(node.link, 'aria-label', [e.name, e.words, e.note, parts].filter(Boolean).join(', '));
		}
		for (const l of links) {
			const line = lines.get(l.a + '-' + l.b);
			if (!line) continue;
			const ill = l.kind !== 'ok';
			set(line.g, 'class', 'link ' + l.kind + (l.parts ? ' parts' : ''));
			set(line.text, 'class', 'label ' + l.kind + ((line.labelled || (ill && line.free)) ? '' : ' off'));
			write(line.one, ill ? cut(l.words, 18) : line.arrows[0] + l.forth + ' ' + line.arrows[1] + l.back);
			write(line.two, cut(l.note, 20));
			write(line.title, `${l.a}–${l.b}: ${l.words}\n${l.forth} forth, ${l.back} back\n${l.note}${l.parts ? '\nits loss parts the herd' : ''}`);
		}
	};

	const draw = () => {
		if (!seen) return;
		width = Math.max(Math.floor(svg.parentElement.clientWidth), 280);
		const key = JSON.stringify([width, seen.edges.map((e) => e.name), seen.links.map((l) => l.a + '-' + l.b)]);
		if (key !== drawn) build(seen);
		drawn = key;
		update(seen);
	};
	new ResizeObserver(() => {
		if (Math.abs(svg.parentElement.clientWidth - width) >= 1) draw();
	}).observe(svg.parentElement);

	return {
		show(state) {
			seen = state;
			draw();
		},
	};
};
