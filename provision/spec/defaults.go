package spec

import "reflect"

// setDefaults sets the defaults of absent fields: strings from the table of constraints, and those
// that depend on other fields.
func setDefaults(c *Cluster) {
	backend := c.Spec.Network.FlannelBackend
	fillStrings(reflect.ValueOf(c).Elem())
	if c.Spec.Network.Plugin != "flannel" {
		c.Spec.Network.FlannelBackend = backend
	}
	if s := c.Spec.State.S3; s != nil && s.Prefix == "" {
		s.Prefix = c.Metadata.Name
	}
	if c.Spec.AllowCgroupV1 == nil {
		local := c.Spec.Provider.Local != nil
		c.Spec.AllowCgroupV1 = &local
	}
}

// fillStrings sets the default of every empty string field, in all structs that are present.
func fillStrings(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			fillStrings(v.Elem())
		}
	case reflect.Slice:
		for i := range v.Len() {
			fillStrings(v.Index(i))
		}
	case reflect.Struct:
		for name, f := range fieldsOf(v.Type()) {
			field := v.FieldByIndex(f.Index)
			if field.Kind() != reflect.String {
				fillStrings(field)
			} else if def := constraints[v.Type().Name()+"."+name].def; def != "" && field.String() == "" {
				field.SetString(def)
			}
		}
	}
}
