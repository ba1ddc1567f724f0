package lifecycle

import (
	"fmt"
	"slices"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

const (
	// maxAssets is how many assets an incident keeps.
	maxAssets = 128
	// maxAssetBytes is how many bytes they may take together, as JSON: 128 usual ones take a
	// quarter of it, and it is little of what an incident may have.
	maxAssetBytes = 64 << 10
	// assetOverhead is what the names of an asset's fields take, and its type and state.
	assetOverhead = 100
)

// ownAssets takes in what the incident itself says that it is about, as its opener does: with
// that event it may have been found to be another matter.
func (m *machine) ownAssets() {
	opener := m.opener()
	if detachmentOf(m.status, opener.Name) != nil {
		return
	}
	for _, asset := range m.incident.Spec.Assets {
		m.joinAsset(v1alpha1.IncidentAsset{Asset: asset, EventRef: opener}, "")
	}
}

// joinAsset adds an asset that the incident is not about yet, and says why; without a reason it
// was about it from the start.
func (m *machine) joinAsset(asset v1alpha1.IncidentAsset, why string) {
	name := assetName(&asset)
	at := slices.IndexFunc(m.status.Assets, func(known v1alpha1.IncidentAsset) bool { return sameAsset(&known.Asset, &asset.Asset) })
	switch {
	case m.omittedAssets[name], at >= 0 && m.status.Assets[at].State == "":
		return
	case at >= 0:
		m.status.Assets[at] = asset
	case m.omitsAssets() || !m.roomForAsset(&asset):
		if !m.omitsAssets() {
			m.log(v1alpha1.TimelineEntry{Action: "AssetsOmitted", Outcome: "Failed", Resource: name, Message: fmt.Sprintf(
				"the incident has %d assets already; this one and any further ones are not listed: look at its events", len(m.status.Assets))})
		}
		m.omittedAssets[name] = true
		return
	default:
		m.status.Assets = append(m.status.Assets, asset)
	}
	if why != "" {
		m.log(v1alpha1.TimelineEntry{Action: "AssetJoined", Outcome: "Succeeded", Resource: name, Message: why})
	}
}

// omitsAssets says that an asset found no room: then no further one is looked at, for none leaves.
func (m *machine) omitsAssets() bool { return m.status.OmittedAssets > 0 || len(m.omittedAssets) > 0 }

func (m *machine) roomForAsset(asset *v1alpha1.IncidentAsset) bool {
	used := assetBytes(asset)
	for i := range m.status.Assets {
		used += assetBytes(&m.status.Assets[i])
	}
	return len(m.status.Assets) < maxAssets && used <= maxAssetBytes
}

func assetBytes(asset *v1alpha1.IncidentAsset) int {
	return assetOverhead + JSONLen(asset.Identifier) + JSONLen(asset.Owner) + len(asset.EventRef.Name)
}

// takeUpAssets takes in what a duplicate is about.
func (m *machine) takeUpAssets(duplicate *v1alpha1.Incident) {
	for _, asset := range duplicate.Status.Assets {
		if asset.State == "" {
			m.joinAsset(asset, fmt.Sprintf("incident %s, a duplicate, is about it", duplicate.Name))
		}
	}
}

// detachAssets gives up what an event alone has named, and lists it.
func (m *machine) detachAssets(event string) (given []string) {
	for i := range m.status.Assets {
		asset := &m.status.Assets[i]
		if asset.EventRef.Name != event || asset.State != "" {
			continue
		}
		other := m.otherEvent(event, func(spec *v1alpha1.SecurityEventSpec) bool {
			return slices.ContainsFunc(spec.Assets, func(named v1alpha1.Asset) bool { return sameAsset(&named, &asset.Asset) })
		})
		if other != nil {
			asset.EventRef.Name = other.Name
			continue
		}
		asset.State = v1alpha1.AssetDetached
		given = append(given, assetName(asset))
	}
	return given
}

// sameAsset goes by type and identifier: who is responsible need not be known to everybody.
func sameAsset(a, b *v1alpha1.Asset) bool { return a.Type == b.Type && a.Identifier == b.Identifier }

func assetName(asset *v1alpha1.IncidentAsset) string {
	return string(asset.Type) + " " + asset.Identifier
}
