// Package worldmap holds the script that draws positions on a map of the world in a browser, and
// the outline that it draws them on. A page that embeds both needs no tiles, so nothing that is on
// the map leaves the operator's network.
//
// It knows nothing of edges, of HTTP, or of where positions come from: a page hands the script
// cells and clients, and is told which part of the world is in view.
package worldmap

import _ "embed" // the script and the outline

// Script defines the global function worldMap; its first comment says how to use it. It sets no
// style attribute and evaluates no text, so a content security policy may have its hash alone.
//
//go:embed map.js
var Script string

// Outline is the land of the world as the path of an SVG, with x = longitude and y = −latitude, both
// in tenths of a degree, simplified by 0.25°: 15 KB. It was made from Natural Earth's 1:110m
// coastline, which is in the public domain; its lines were joined to rings, at the antimeridian and the
// South Pole too, so that the land can be filled.
//
//go:embed world.svgpath
var Outline string
